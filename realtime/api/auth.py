"""The credentials of the API: a token in the header `Authorization`, and nothing else. Cookies are not read."""

from __future__ import annotations

import time
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from ninja.security import HttpBearer

from realtime.api.clients import address_of, log_source
from realtime.api.problems import Problem, ProblemCode
from realtime.auth.identity import Identity
from realtime.auth.security_log import log_security_event
from realtime.auth.tokens import ONE_SENTENCE, InvalidToken, verify_token
from realtime.connection.auth_failures import auth_failures
from realtime.connection.authentication import identity_without_credentials
from realtime.connection.client_address import ClientAddress
from realtime.limits import Limits

_SCHEME = "bearer"


class Bearer(HttpBearer):
    """Checks the token of a request. It becomes `request.auth`, an `Identity`."""

    # The base class splits the header, and takes another scheme for no credentials.
    async def __call__(self, request: HttpRequest) -> Identity:
        """Return who sends the request.

        Raises:
            Problem: with `AUTH_REQUIRED`, `AUTH_FAILED` or `RATE_LIMIT_EXCEEDED`.
        """
        address = address_of(request)
        header = request.headers.get("Authorization")
        if header is None:
            return _without_credentials(address)
        owner = address.owner
        wait_seconds = auth_failures.wait_seconds(owner, now=time.monotonic())
        if wait_seconds:
            raise Problem(
                ProblemCode.RATE_LIMIT_EXCEEDED,
                "Too many refused tokens from this address",
                retry_after_seconds=wait_seconds,
            )
        try:
            return await _verified(header)
        except InvalidToken as error:
            limits: Limits = settings.MAHAVISHNU_LIMITS
            auth_failures.add(owner, limit=limits.max_auth_failures_per_minute, now=time.monotonic())
            log_security_event(
                "auth.failed",
                error.reason,
                user_id=error.user_id,
                token_id=error.token_id,
                source=log_source(request),
            )
            raise Problem(ProblemCode.AUTH_FAILED, ONE_SENTENCE) from None

    def authenticate(self, request: HttpRequest, token: str) -> Any:
        raise NotImplementedError  # `__call__` does it.


async def _verified(header: str) -> Identity:
    scheme, _, token = header.partition(" ")
    if scheme.lower() != _SCHEME:
        raise InvalidToken("another scheme than Bearer")
    return await verify_token(token.strip())


def _without_credentials(address: ClientAddress) -> Identity:
    if settings.MAHAVISHNU_REQUIRE_AUTH:
        raise Problem(ProblemCode.AUTH_REQUIRED, "Send a token in the header `Authorization: Bearer TOKEN`")
    return identity_without_credentials(address)
