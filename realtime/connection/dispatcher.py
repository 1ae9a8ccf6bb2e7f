"""The requests of one connection that are being answered, side by side: a slow one holds up no other.

Whatever goes wrong with a request becomes an error message in one place, here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from realtime.connection.handlers import handle
from realtime.connection.registry import Connection
from realtime.database import log_failure
from realtime.protocol.errors import ErrorCode, RequestError
from realtime.protocol.frames import Frames
from realtime.protocol.messages import encode_error, encode_response
from realtime.protocol.requests import Incoming, Request, Subscribe, Unsubscribe

logger = logging.getLogger(__name__)


class RequestTookTooLong(Exception):
    """Raised when a request was given up: the database is busy or away, and what was asked may well be in order."""

    def __init__(self, event: str, seconds: float) -> None:
        super().__init__(event, seconds)
        self.event = event
        self.seconds = seconds

    def __str__(self) -> str:
        return f"Gave up after {self.seconds:g} s on a {self.event} request"


class RequestDispatcher:
    """The requests of one connection."""

    __slots__ = ("_connection", "_in_order", "_tasks")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._tasks: set[asyncio.Task[None]] = set()
        # Subscribing and unsubscribing take effect in the order they were asked for, and before later queries are
        # answered: whoever subscribes and then asks, without waiting in between, misses nothing that comes after.
        self._in_order = asyncio.Lock()

    @property
    def is_full(self) -> bool:
        """Whether none should be begun before another is answered."""
        return len(self._tasks) >= self._connection.limits.max_requests_in_flight

    def begin(self, incoming: Incoming, request: Request) -> None:
        """Begin to answer one more."""
        task = asyncio.create_task(self._answer(incoming, request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def until_one_is_answered(self) -> None:
        """Wait for any of them."""
        await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)

    async def stop(self) -> None:
        """Answer none of them any more: the connection is gone."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        del self._connection  # It refers to this.

    async def _answer(self, incoming: Incoming, request: Request) -> None:
        """Answer one request. The one place where whatever goes wrong with it becomes an error message."""
        try:
            async with self._in_order:
                if isinstance(request, Subscribe | Unsubscribe):
                    await self._carry_out(incoming, request)
                    return
            await self._carry_out(incoming, request)
        except RequestError as error:
            error.event = incoming.event
            error.correlation_id = incoming.correlation_id
            self._connection.write(Frames([encode_error(error)]))
        except Exception as error:
            if isinstance(error, RequestTookTooLong):
                logger.warning("%s of %s", error, self._connection)
            else:
                log_failure(logger, f"A {incoming.event} request failed", error)
            # Never the exception's text, never a stack trace.
            ours = RequestError(
                ErrorCode.SERVER_ERROR,
                "Internal server error",
                event=incoming.event,
                correlation_id=incoming.correlation_id,
            )
            self._connection.write(Frames([encode_error(ours, retryable=True)]))

    async def _carry_out(self, incoming: Incoming, request: Request) -> None:
        seconds = self._connection.limits.request_timeout_seconds
        try:
            async with asyncio.timeout(seconds) as deadline:
                answered = await handle(self._connection, request)
        except TimeoutError:
            if not deadline.expired():
                raise
            raise RequestTookTooLong(incoming.event, seconds) from None
        finally:
            # It refers to this task, which keeps the exception that cancels it, and with that this very frame.
            del deadline
        response = encode_response(incoming.event, answered.data, incoming.correlation_id)
        self._connection.write(Frames([response]))
        if answered.after_send is not None:
            await self._follow_up(answered.after_send)

    async def _follow_up(self, after_send: Callable[[], Awaitable[None]]) -> None:
        """What was promised in the answer cannot be taken back: if it fails, the client must start over."""
        try:
            await after_send()
        except Exception as error:
            log_failure(logger, "A subscription could not be continued", error)
            self._connection.on_server_error()
