"""Settings of a server that writes a byte into a file for each password it hashes."""

from __future__ import annotations

from django.contrib.auth.hashers import MD5PasswordHasher

from mahavishnu_site.settings import *  # noqa: F403
from mahavishnu_site.settings import MAHAVISHNU_VAR_DIR

HASHES_PATH = MAHAVISHNU_VAR_DIR / "hashes"

PASSWORD_HASHERS = ["tests.site.hash_counter.CountingHasher"]


class CountingHasher(MD5PasswordHasher):
    """A fast hasher."""

    def encode(self, password: str, salt: str) -> str:
        with HASHES_PATH.open("a") as file:
            file.write(".")
        return super().encode(password, salt)
