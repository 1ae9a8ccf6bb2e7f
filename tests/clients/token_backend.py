"""A daphne that requires tokens, for the cases that are about them."""

from __future__ import annotations

import secrets
import time
from typing import Any, Final

import jwt

from tests.clients.case_backends import RealBackend
from tests.harness.server import MahavishnuServer
from tests.harness.waiting import wait_until

SECRET: Final = secrets.token_urlsafe(48)
SOON_SECONDS: Final = 10
"""A token expires by itself in less than this, or it is revoked."""

ENVIRONMENT: Final = {"MAHAVISHNU_REQUIRE_AUTH": "1", "MAHAVISHNU_JWT_SECRET": SECRET}


class TokenBackend(RealBackend):
    """A daphne with a database. It accepts every token that is signed, so a case names those that it will accept."""

    def __init__(self, server: MahavishnuServer) -> None:
        super().__init__(server)
        self._claims: dict[str, dict[str, Any]] = {}
        self.accept("of the test", ["admin"], seconds=600)

    @property
    def connect_options(self) -> dict[str, Any]:
        return {"additional_headers": {"Authorization": f"Bearer {self.token('of the test')}"}}

    def accept(self, token: str, permissions: list[str], *, seconds: float) -> None:
        # Of another id in each case, because some are revoked.
        token_id = f"{token.replace(' ', '_')}_{secrets.token_hex(4)}"
        self._claims[token] = {
            "user_id": "tester",
            "permissions": permissions,
            "jti": token_id,
            "exp": int(time.time() + seconds),
        }

    def token(self, name: str) -> str:
        return jwt.encode(self._claims[name], SECRET, algorithm="HS256")

    def expire(self, token: str) -> None:
        token_id, expires_at = self._claims[token]["jti"], self._claims[token]["exp"]
        if expires_at - time.time() < SOON_SECONDS:
            wait_until(lambda: time.time() > expires_at + 1, timeout_seconds=SOON_SECONDS + 1, what="the expiry")
            return
        self.server.services_driver.execute(
            f"from realtime.auth.revocation import revoke_token_id\nresult = revoke_token_id({token_id!r})"
        )

    def announce_expiry(self) -> None:
        """Do nothing: the server announces the end of a token that is valid for a few seconds."""

    def wait_refresh(self, count: int) -> None:
        token_id = self._claims[next(reversed(self._claims))]["jti"]

        def is_refreshed() -> bool:
            accepted = [line for line in self.server.log_text().splitlines() if "auth.ok" in line]
            return sum(token_id in line for line in accepted) >= count

        wait_until(is_refreshed, timeout_seconds=20, what="the new tokens")
