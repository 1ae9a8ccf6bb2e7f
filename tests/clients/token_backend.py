"""A daphne that requires tokens, for the cases that are about them."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import Any, Final

from tests.clients.case_backends import RealBackend
from tests.harness.server import MahavishnuServer
from tests.harness.tokens import token as new_token
from tests.harness.waiting import wait_until

SOON_SECONDS: Final = 10
"""A token expires by itself in less than this, or it is revoked."""


@dataclass(frozen=True)
class _Token:
    """A token of a case. Its id is of one run of the case, because it may be revoked."""

    token_id: str
    expires_at: float
    text: str


class TokenBackend(RealBackend):
    """A daphne with a database. It accepts every token that is signed, so a case names those that it will accept."""

    def __init__(self, server: MahavishnuServer) -> None:
        super().__init__(server)
        self._tokens: dict[str, _Token] = {}

    @property
    def connect_options(self) -> dict[str, Any]:
        return {"additional_headers": {"Authorization": f"Bearer {new_token('admin')}"}}

    def accept(self, token: str, permissions: list[str], *, seconds: float) -> None:
        token_id = f"{token}_{secrets.token_hex(4)}"
        text = new_token(*permissions, seconds=seconds, jti=token_id)
        self._tokens[token] = _Token(token_id, time.time() + seconds, text)

    def token(self, name: str) -> str:
        return self._tokens[name].text

    def expire(self, token: str) -> None:
        expiring = self._tokens[token]
        if expiring.expires_at - time.time() < SOON_SECONDS:
            wait_until(lambda: time.time() > expiring.expires_at + 1, timeout_seconds=SOON_SECONDS + 1, what="expiry")
            return
        code = f"from realtime.auth.revocation import revoke_token_id\nresult = revoke_token_id({expiring.token_id!r})"
        self.server.services_driver.execute(code)

    def announce_expiry(self) -> None:
        """Do nothing: the server announces the end of a token that is valid for a few seconds."""

    def wait_refresh(self, count: int) -> None:
        last = self._tokens[next(reversed(self._tokens))]

        def is_refreshed() -> bool:
            accepted = [line for line in self.server.log_text().splitlines() if "auth.ok" in line]
            return sum(last.token_id in line for line in accepted) >= count

        wait_until(is_refreshed, timeout_seconds=20, what="the new tokens")
