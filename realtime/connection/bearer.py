"""The token in the header `Authorization` of an HTTP request, for the HTTP API and `/health`."""

from __future__ import annotations

import time
from typing import Final

from django.conf import settings

from realtime.auth.identity import Identity
from realtime.auth.security_log import log_security_event
from realtime.auth.tokens import InvalidToken, verify_token
from realtime.connection.auth_failures import auth_failures
from realtime.connection.client_address import ClientAddress
from realtime.limits import Limits

_SCHEME: Final = "bearer"


class TooManyFailures(Exception):
    """Raised for an address with too many refused tokens. Nothing was checked.

    Attributes:
        wait_seconds: How long it has to wait.
    """

    def __init__(self, wait_seconds: float) -> None:
        super().__init__("Too many refused tokens from this address")
        self.wait_seconds = wait_seconds


def is_bearer(header: str) -> bool:
    """Return whether a header `Authorization` presents a token, and not a password."""
    return header.partition(" ")[0].lower() == _SCHEME


async def identity_of_bearer(header: str, address: ClientAddress, *, source: str) -> Identity:
    """Return whose token a header `Authorization` presents. Count and log one that is refused.

    Args:
        header: The header, with the scheme `Bearer`.
        address: Where its client is.
        source: The same, and what was requested, for the log.

    Raises:
        TooManyFailures: if the address has to wait.
        InvalidToken: if the token is not valid now, was revoked, or is missing.
        django.db.Error: if it is not known whether it was revoked.
    """
    wait_seconds = auth_failures.wait_seconds(address.owner, now=time.monotonic())
    if wait_seconds:
        raise TooManyFailures(wait_seconds)
    try:
        return await verify_token(header.partition(" ")[2].strip())
    except InvalidToken as error:
        limits: Limits = settings.MAHAVISHNU_LIMITS
        auth_failures.add(address.owner, limit=limits.max_auth_failures_per_minute, now=time.monotonic())
        log_security_event("auth.failed", error.reason, user_id=error.user_id, token_id=error.token_id, source=source)
        raise
