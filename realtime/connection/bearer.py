"""The token in the header `Authorization` of an HTTP request, for the HTTP API and `/health`."""

from __future__ import annotations

import time

from django.conf import settings

from realtime.auth.identity import Identity
from realtime.auth.security_log import log_security_event
from realtime.auth.tokens import InvalidToken, verify_token
from realtime.connection.auth_failures import auth_failures
from realtime.connection.client_address import ClientAddress
from realtime.limits import Limits


class TooManyFailures(Exception):
    """Raised for an address with too many refused tokens. Nothing was checked.

    Attributes:
        wait_seconds: How long it has to wait.
    """

    def __init__(self, wait_seconds: float) -> None:
        super().__init__("Too many refused tokens from this address")
        self.wait_seconds = wait_seconds


async def identity_of_bearer(token: str, address: ClientAddress, *, source: str) -> Identity:
    """Return whose token this is. Count and log one that is refused.

    Args:
        token: The token in the header `Authorization`; it may be empty.
        address: Where its client is.
        source: The same, and what was requested, for the log.

    Raises:
        TooManyFailures: if the address has to wait.
        InvalidToken: if the token is not valid now, was revoked, or is empty.
        django.db.Error: if it is not known whether it was revoked.
    """
    wait_seconds = auth_failures.wait_seconds(address.owner, now=time.monotonic())
    if wait_seconds:
        raise TooManyFailures(wait_seconds)
    try:
        return await verify_token(token)
    except InvalidToken as error:
        limits: Limits = settings.MAHAVISHNU_LIMITS
        auth_failures.add(address.owner, limit=limits.max_auth_failures_per_minute, now=time.monotonic())
        log_security_event("auth.failed", error.reason, user_id=error.user_id, token_id=error.token_id, source=source)
        raise
