"""What a client does when the server refuses its token, and before the token expires."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from time import monotonic

import msgspec

from mahavishnu_client.backoff import Backoff
from mahavishnu_client.errors import ClientError, RequestFailed, RequestTimeout
from mahavishnu_client.options import Options
from mahavishnu_client.request_table import RequestTable, set_answer
from mahavishnu_client.tokens import TokenSource

logger = logging.getLogger(__name__)

_PAUSE = 1008
"""A close code after which no attempt follows at once."""


class Authentication:
    """The token of one client, over all its connections.

    Args:
        source: The token, as the user has given it.
        options: Times and bounds.
    """

    def __init__(self, source: TokenSource, options: Options) -> None:
        self._source = source
        self._options = options
        self._accepted_at: float | None = None
        self._refusals = 0
        self._refreshing: asyncio.Task[None] | None = None
        self._last_sent: int | None = None  # The hash of a token.

    async def token(self) -> str | None:
        """Return the token of the next connection; None if the client has none.

        Raises:
            ClientError: if the function of the user returns none.
        """
        token = await self._fetch()
        self._last_sent = hash(token)
        return token

    async def _fetch(self) -> str | None:
        return await self._source.fetch(timeout_seconds=self._options.request_timeout_seconds)

    def on_accepted(self) -> None:
        """Note that the server has accepted the token."""
        self._accepted_at = monotonic()

    def on_refused(self) -> bool:
        """Count a refusal. Return whether another token may be accepted: one try, if the user gave a function."""
        accepted_at, self._accepted_at = self._accepted_at, None
        if accepted_at is not None and monotonic() - accepted_at >= self._options.stable_after_seconds:
            self._refusals = 0
        self._refusals += 1
        return self._source.is_function and self._refusals == 1

    # --- Refresh -----------------------------------------------------------------------------------------------

    def on_expiring(self, requests: RequestTable) -> None:
        """Send a new token over this connection, if the user gave a function."""
        if self._source.is_function and self._refreshing is None:
            self._refreshing = asyncio.create_task(self._refresh(requests))

    def on_disconnected(self) -> None:
        """End the refresh: the next connection has its own token."""
        refreshing, self._refreshing = self._refreshing, None
        if refreshing is not None:
            refreshing.cancel()

    async def _refresh(self, requests: RequestTable) -> None:
        backoff = Backoff(self._options)
        while True:
            retry_after_ms: int | None = None
            try:
                token = await self._fetch()
                # Otherwise there is no new one yet.
                if hash(token) != self._last_sent:
                    await self._send(requests, token)
                    self._last_sent = hash(token)
                    break
            except ClientError as error:
                logger.warning("The token was not refreshed: %s", error)
                if isinstance(error, RequestFailed) and not error.retryable:
                    break
                retry_after_ms = getattr(error, "retry_after_ms", None)
            await asyncio.sleep(backoff.pause_seconds(close_code=_PAUSE, retry_after_ms=retry_after_ms))
        self._refreshing = None

    async def _send(self, requests: RequestTable, token: str | None) -> None:
        answer: asyncio.Future[msgspec.Raw] = asyncio.get_running_loop().create_future()
        data = {"token": token}
        request_id = requests.add("refresh_token", data, partial(set_answer, answer), is_connected=True)
        seconds = self._options.request_timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                await answer
        except TimeoutError:
            raise RequestTimeout(f"No answer to refresh_token within {seconds:g} s") from None
        finally:
            requests.forget(request_id)
