"""Run the requests of one connection concurrently, so that a slow query delays no other request.

A `subscribe` with a replay delays the later requests of its connection until the replay is written.
This is the only module that turns a failed request into an error message.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from realtime.auth.security_log import log_security_event
from realtime.connection.handlers import Queued, handle
from realtime.connection.refusal_counter import RefusalCounter
from realtime.connection.registry import Connection
from realtime.database import log_failure
from realtime.protocol.decoder import Incoming
from realtime.protocol.errors import ErrorCode, RequestError
from realtime.protocol.frames import Frames
from realtime.protocol.messages import encode_error, encode_response
from realtime.protocol.requests import QueuedRequest, Request, Subscribe, TokenRequest, Unsubscribe
from realtime.queries.replay_reads import RequestTimeout

logger = logging.getLogger(__name__)


class RequestDispatcher:
    """The requests of one connection that are in flight."""

    __slots__ = ("_connection", "_forbidden", "_subscribing", "_subscription_order", "_tasks")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._tasks: set[asyncio.Task[None]] = set()
        self._subscribing = 0
        self._forbidden = RefusalCounter(connection.limits.max_forbidden_per_minute)
        # Subscribe and unsubscribe requests take effect in the order they arrived, and before later queries are
        # answered. So a client that subscribes and then queries without waiting misses no later event. Lists are read
        # one after the other too: the queue of the replays holds one read of each connection.
        self._subscription_order = asyncio.Lock()

    @property
    def is_full(self) -> bool:
        """Whether `max_requests_in_flight` is reached."""
        return len(self._tasks) >= self._connection.limits.max_requests_in_flight

    @property
    def is_subscribing(self) -> bool:
        """Whether a `subscribe` is in flight. Otherwise all subscriptions of the connection are live."""
        return self._subscribing > 0

    async def finish(self, incoming: Incoming, request: TokenRequest) -> None:
        """Handle a request that decides about those after it, and wait for it."""
        await asyncio.wait([self._start(incoming, request)])

    def dispatch(self, incoming: Incoming, request: Request) -> None:
        """Start handling one more request."""
        task = self._start(incoming, request)
        if isinstance(request, Subscribe):
            self._subscribing += 1
            self._connection.relay.position_notices.remove(self._connection)
            task.add_done_callback(self._on_subscribed)

    def _start(self, incoming: Incoming, request: Request) -> asyncio.Task[None]:
        task = asyncio.create_task(self._respond(incoming, request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _on_subscribed(self, _: asyncio.Task[None]) -> None:
        self._subscribing -= 1
        connection = self._connection
        if not self.is_subscribing and len(connection.channels) > 1:
            connection.relay.position_notices.add(connection)

    async def wait_for_any(self) -> None:
        """Wait until any request is answered."""
        await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)

    def cancel(self) -> None:
        """Cancel all requests: the client has disconnected."""
        for task in self._tasks:
            task.cancel()

    async def stop(self) -> None:
        """Cancel all requests, and wait until they have ended. Called after the disconnect."""
        self.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        del self._connection  # It refers back to this dispatcher.

    async def _respond(self, incoming: Incoming, request: Request) -> None:
        """Answer one request, with an error message if it fails."""
        try:
            if isinstance(request, TokenRequest):
                # It must not wait for a replay that the client reads slowly: its token might expire meanwhile.
                await self._handle(incoming, request)
                return
            async with self._subscription_order:
                if isinstance(request, Subscribe | Unsubscribe | QueuedRequest):
                    await self._handle(incoming, request)
                    return
            await self._handle(incoming, request)
        except RequestError as error:
            error.event = incoming.event
            error.correlation_id = incoming.correlation_id
            if error.code is ErrorCode.AUTH_FAILED:
                self._connection.close_unauthenticated(error)
            else:
                self._connection.write(Frames([encode_error(error)]))
            if error.code is ErrorCode.FORBIDDEN:
                self._on_forbidden(error)
        except Exception as error:
            if isinstance(error, RequestTimeout):
                logger.warning("Request %s %s on %s; answered SERVER_ERROR", incoming.event, error, self._connection)
            else:
                log_failure(
                    logger, f"Request {incoming.event} on {self._connection} failed; answered SERVER_ERROR", error
                )
            # The client gets neither the exception's text nor a stack trace.
            server_error = RequestError(
                ErrorCode.SERVER_ERROR,
                "Internal server error",
                event=incoming.event,
                correlation_id=incoming.correlation_id,
            )
            self._connection.write(Frames([encode_error(server_error)]))

    def _on_forbidden(self, error: RequestError) -> None:
        connection = self._connection
        identity = connection.identity
        log_security_event(
            "forbidden",
            repr(error.message),
            user_id=identity.user_id,
            token_id=identity.token_id,
            source=str(connection),
        )
        if self._forbidden.add(now=asyncio.get_running_loop().time()):
            connection.on_too_many_forbidden()

    async def _handle(self, incoming: Incoming, request: Request) -> None:
        seconds = self._connection.limits.request_timeout_seconds
        try:
            async with asyncio.timeout(seconds) as deadline:
                response = await handle(self._connection, request)
            if isinstance(response, Queued):
                response = await response.response()
        except TimeoutError:
            if not deadline.expired():
                raise
            raise RequestTimeout(seconds) from None
        finally:
            # Break a reference cycle: `deadline` refers to this task. The task keeps the exception that cancels it, and
            # the exception refers to this frame.
            del deadline
        self._connection.write(Frames([encode_response(incoming.event, response.data, incoming.correlation_id)]))
        after_send = response.after_send
        del response  # A replay may take long, and must not hold its snapshot.
        if after_send is not None:
            await self._run_after_send(after_send)

    async def _run_after_send(self, after_send: Callable[[], Awaitable[None]]) -> None:
        """Run the work that follows a response. The response is already sent, so a failure closes the connection."""
        try:
            await after_send()
        except RequestTimeout as error:
            logger.warning("Closing %s: replay %s", self._connection, error)
            self._connection.on_server_error()
        except Exception as error:
            log_failure(logger, f"Closing {self._connection}: replay failed", error)
            self._connection.on_server_error()
