"""The credentials of the API: a token in the header `Authorization`, and nothing else. Cookies are not read."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from ninja.security import HttpBearer

from realtime.api.clients import address_of, log_source
from realtime.api.problems import Problem
from realtime.auth.identity import Identity
from realtime.auth.tokens import ONE_SENTENCE, InvalidToken
from realtime.connection.authentication import identity_without_credentials
from realtime.connection.bearer import TooManyFailures, identity_of_bearer
from realtime.connection.credentials import bearer_token
from realtime.protocol.problems import ProblemCode


class Bearer(HttpBearer):
    """Checks the token of a request. It becomes `request.auth`, an `Identity`."""

    # The base class splits the header, and takes another scheme for no credentials.
    async def __call__(self, request: HttpRequest) -> Identity:
        """Return who sends the request.

        Raises:
            Problem: with `AUTH_REQUIRED`, `AUTH_FAILED` or `RATE_LIMIT_EXCEEDED`.
        """
        address = address_of(request)
        token = bearer_token(request.headers.get("Authorization", ""))
        if token is None:
            if settings.MAHAVISHNU_REQUIRE_AUTH:
                raise Problem(ProblemCode.AUTH_REQUIRED, "Send a token in the header `Authorization: Bearer TOKEN`")
            return identity_without_credentials(address)
        try:
            return await identity_of_bearer(token, address, source=log_source(request))
        except TooManyFailures as error:
            raise Problem(ProblemCode.RATE_LIMIT_EXCEEDED, str(error), retry_after_seconds=error.wait_seconds) from None
        except InvalidToken:
            raise Problem(ProblemCode.AUTH_FAILED, ONE_SENTENCE) from None

    def authenticate(self, request: HttpRequest, token: str) -> Any:
        raise NotImplementedError  # `__call__` does it.
