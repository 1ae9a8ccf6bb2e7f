"""The credentials of the API: a token in the header `Authorization` or, from the server's own pages, a login."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from ninja.security import HttpBearer

from realtime.api.clients import address_of, log_source
from realtime.api.problems import Problem
from realtime.auth.identity import Identity
from realtime.auth.security_log import log_security_event
from realtime.auth.tokens import ONE_SENTENCE, InvalidToken
from realtime.connection.authentication import identity_without_credentials
from realtime.connection.bearer import TooManyFailures, identity_of_bearer
from realtime.connection.credentials import bearer_token
from realtime.connection.page_session import CsrfFailure, identity_of_page
from realtime.protocol.problems import ProblemCode


class Bearer(HttpBearer):
    """Checks the token of a request or, if it has none, its login. It becomes `request.auth`, an `Identity`."""

    # The base class splits the header, and takes another scheme for no credentials.
    async def __call__(self, request: HttpRequest) -> Identity:
        """Return who sends the request.

        Raises:
            Problem: with `AUTH_REQUIRED`, `AUTH_FAILED`, `CSRF_FAILED` or `RATE_LIMIT_EXCEEDED`.
        """
        address = address_of(request)
        token = bearer_token(request.headers.get("Authorization", ""))
        if token is None:
            # As for a WebSocket, a login counts where one is required.
            return (
                await _by_login(request) if settings.MAHAVISHNU_REQUIRE_AUTH else identity_without_credentials(address)
            )
        try:
            return await identity_of_bearer(token, address, source=log_source(request))
        except TooManyFailures as error:
            raise Problem(ProblemCode.RATE_LIMIT_EXCEEDED, str(error), retry_after_seconds=error.wait_seconds) from None
        except InvalidToken:
            raise Problem(ProblemCode.AUTH_FAILED, ONE_SENTENCE) from None

    def authenticate(self, request: HttpRequest, token: str) -> Any:
        raise NotImplementedError  # `__call__` does it.


async def _by_login(request: HttpRequest) -> Identity:
    try:
        identity = await identity_of_page(request)
    except CsrfFailure as error:
        log_security_event("csrf.failed", str(error), user_id=error.user_id, source=log_source(request))
        raise Problem(ProblemCode.CSRF_FAILED, str(error)) from None
    if identity is None:
        raise Problem(
            ProblemCode.AUTH_REQUIRED, "Send a token in the header `Authorization: Bearer TOKEN`; in a browser, log in"
        )
    return identity
