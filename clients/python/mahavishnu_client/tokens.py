"""Where the token of each connection comes from."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from mahavishnu_client.errors import ClientError

Token: TypeAlias = str | Callable[[], str | Awaitable[str]]
"""A token, or a function without arguments that returns one. The function may be a coroutine function."""

_is_token = re.compile(r"[A-Za-z0-9._~+-]+").fullmatch
_has_token = re.compile(
    r"[?&;#](((access_?|auth_?|id_|bearer_)?token|bearer|jwt|auth|authorization)=|[^&;#]*=(bearer(%20|\+))?eyJ[\w-]+\.[\w-]+\.)",
    re.IGNORECASE,
).search
_ALLOWED = "expected letters, digits and . _ ~ + - only"


class TokenSource:
    """The token that the user has given, as a text or as a function. No `repr()` and no error contains a token.

    Args:
        given: The token; None if the client has none.

    Raises:
        ValueError: if it is a text, but no token.
    """

    def __init__(self, given: Token | None) -> None:
        if not (given is None or isinstance(given, str) or callable(given)):
            raise ValueError("Invalid token: expected a text, or a function that returns one")
        self._given = _checked(given) if isinstance(given, str) else given

    @property
    def is_function(self) -> bool:
        """Whether it returns a new token each time."""
        return callable(self._given)

    @property
    def is_given(self) -> bool:
        """Whether there is a token."""
        return self._given is not None

    async def fetch(self, *, timeout_seconds: float) -> str | None:
        """Return the token. A coroutine function is awaited, and another function is called in a thread.

        Raises:
            ClientError: if the function fails, takes longer, or returns no token. Its exception is the cause.
        """
        given = self._given
        if given is None or isinstance(given, str):
            return given
        try:
            async with asyncio.timeout(timeout_seconds):
                token = given() if inspect.iscoroutinefunction(given) else await asyncio.to_thread(given)
                if inspect.isawaitable(token):
                    token = await token
        except Exception as error:
            # Without the text of the exception: this is logged, and the text may contain anything.
            raise ClientError(f"The token function failed: {type(error).__name__}") from error
        if not isinstance(token, str):
            raise ClientError(f"The token function returned no text but {type(token).__name__}")
        try:
            return _checked(token)
        except ValueError as error:
            raise ClientError(f"The token function failed: {error}") from None


def _checked(text: str) -> str:
    """Return a token without the white space around it, as the end of the line of a file."""
    token = text.strip()
    if not _is_token(token):
        raise ValueError(f"Invalid token: {_ALLOWED}")
    return token


def check_url_has_no_token(url: str) -> None:
    """Check that a log of URLs has no token.

    Raises:
        ValueError: if the URL has a token.
    """
    if _has_token(url):
        raise ValueError("A URL must not contain a token, because URLs are logged: use the argument `token`")
