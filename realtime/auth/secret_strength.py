"""Whether a secret for tokens can be guessed. It imports nothing of Django: the settings ask it."""

from __future__ import annotations

import re
from typing import Final

MIN_SECRET_BYTES: Final = 32
"""As long as the digest of HS256 (RFC 7518, section 3.2)."""

MIN_DIFFERENT_BYTES: Final = 16
"""Of 32 random bytes written in base64, fewer than 16 differ once in many millions."""

_KEY_SHAPE = re.compile(
    r"-----BEGIN|---- BEGIN|PuTTY-User-Key-File|(ssh-|ecdsa-sha2-|sk-ssh-|sk-ecdsa-)[a-z0-9@.-]+ |[{\[]"
)
"""PEM, SSH and JSON keys begin like this. As a secret, a public one would let anyone sign tokens."""

# Examples of documentations and tutorials, and defaults of programs, in lower case. Longer ones that begin or end with
# one of these are refused too: people make them long enough by adding to them.
_PUBLISHED: Final = (
    "changeme",
    "change-me",
    "change_me",
    "change-this",
    "change_this",
    "change-in-production",
    "change_in_production",
    "your-secret",
    "your_secret",
    "your-256-bit-secret",
    "your-super-secret",
    "my-secret",
    "my_secret",
    "mysecret",
    "super-secret",
    "super_secret",
    "supersecret",
    "secret-key",
    "secret_key",
    "secretkey",
    "jwt-secret",
    "jwt_secret",
    "dev-secret",
    "dev_secret",
    "test-secret",
    "test_secret",
    "default-secret",
    "default_secret",
    "django-insecure-",
    "a-string-secret-at-least-256-bits-long",
    "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
    "thisisasecret",
    "this-is-a-secret",
    "keyboard cat",
    "0123456789abcdef0123456789abcdef",
    "abcdefghijklmnopqrstuvwxyz",
    "qwertyuiop",
)


def secret_weakness(secret: str) -> str | None:
    """Return why a secret for tokens can be guessed or is no secret; None if it is good enough. It is not shown."""
    stripped = secret.strip()
    encoded = stripped.encode("utf-8", "surrogateescape")
    if _KEY_SHAPE.match(stripped):
        return "it is shaped like a PEM, SSH or JSON key"
    if len(encoded) < MIN_SECRET_BYTES:
        return f"{len(encoded)} bytes, of at least {MIN_SECRET_BYTES}"
    if len(set(encoded)) < MIN_DIFFERENT_BYTES:
        return f"{len(set(encoded))} different bytes, of at least {MIN_DIFFERENT_BYTES}"
    lowered = stripped.lower()
    if any(lowered.startswith(each) or lowered.endswith(each) for each in _PUBLISHED):
        return "it begins or ends with a published example"
    return None
