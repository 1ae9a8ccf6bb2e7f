"""A WebSocket client that keeps all messages in order and finds answers by their `correlation_id`."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as websocket_connect
from websockets.exceptions import ConnectionClosed

ANSWER_TIMEOUT_SECONDS = 30.0

Message = dict[str, Any]


class HasWebSocketUrl(Protocol):
    @property
    def ws_url(self) -> str: ...


class UnexpectedMessageError(AssertionError):
    """Raised when an unexpected message was received."""


class Client:
    """One connection.

    Messages that were received but not returned yet are kept in order. Nothing runs in the background: messages that
    are not read here stay in the connection, which reads ahead without limit.

    Attributes:
        connection: The connection of the `websockets` library.
        welcome: The first message, `session.created`.
        positions: Every `session.position` that was read. They come at any time, so no other method returns them.
    """

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.welcome: Message = {}
        self.positions: list[Message] = []
        self._unread: deque[Message] = deque()
        self._numbers = itertools.count(1)

    async def send(self, message: Any) -> None:
        """Send one value as JSON."""
        await self.connection.send(json.dumps(message))

    async def send_raw(self, message: str | bytes) -> None:
        """Send a text or a binary message unchanged."""
        await self.connection.send(message)

    async def request(self, event: str, *, within_seconds: float = ANSWER_TIMEOUT_SECONDS, **data: Any) -> Message:
        """Send a request and return its answer, a response or an error; earlier messages are kept."""
        request_id = f"{event}_{next(self._numbers):03}"
        await self.send({"type": "request", "event": event, "data": data, "id": request_id})
        return await self.answer_to(request_id, within_seconds=within_seconds)

    async def answer_to(self, request_id: str, *, within_seconds: float = ANSWER_TIMEOUT_SECONDS) -> Message:
        return await self._first(
            lambda message: message.get("correlation_id") == request_id and message["type"] in ("response", "error"),
            within_seconds=within_seconds,
            what=f"an answer to {request_id}",
        )

    async def subscribe(self, channel: str, **options: Any) -> Message:
        """Subscribe and return the response.

        Raises:
            UnexpectedMessageError: if the answer is an error.
        """
        answer = await self.request("subscribe", channel=channel, **options)
        if answer["type"] != "response":
            raise UnexpectedMessageError(f"expected a response to subscribe to {channel}, got {answer}")
        return answer

    async def unsubscribe(self, channel: str) -> Message:
        return await self.request("unsubscribe", channel=channel)

    async def next(self, within_seconds: float = ANSWER_TIMEOUT_SECONDS) -> Message:
        """Return the next message of any kind."""
        return await self._first(lambda message: True, within_seconds=within_seconds, what="a message")

    async def event(self, name: str | None = None, *, within_seconds: float = ANSWER_TIMEOUT_SECONDS) -> Message:
        """Return the next event, or the next one of that name; earlier messages are kept."""
        return await self._first(
            lambda message: message["type"] == "event" and name in (None, message["event"]),
            within_seconds=within_seconds,
            what=name or "an event",
        )

    async def events(self, count: int, within_seconds: float = ANSWER_TIMEOUT_SECONDS) -> list[Message]:
        """Return the next `count` events; `within_seconds` is for all of them."""
        received: list[Message] = []
        try:
            async with asyncio.timeout(within_seconds):
                while len(received) < count:
                    received.append(await self.event(within_seconds=within_seconds))
        except TimeoutError:
            raise TimeoutError(
                f"{len(received)} of {count} events were received within {within_seconds} s: {received[-3:]}"
            ) from None
        return received

    async def expect_nothing(self, seconds: float) -> None:
        """Wait, and check that no message is unread or received in that time.

        Raises:
            UnexpectedMessageError: if there is one.
        """
        try:
            message = await self.next(within_seconds=seconds)
        except TimeoutError:
            return
        raise UnexpectedMessageError(f"expected no message, got {message}")

    async def wait_closed(self, within_seconds: float = ANSWER_TIMEOUT_SECONDS) -> tuple[int, str]:
        """Read to the end of the connection, keep its messages, and return the close code and reason."""
        try:
            async with asyncio.timeout(within_seconds):
                while True:
                    await self._receive()
        except ConnectionClosed as error:
            return (error.rcvd.code, error.rcvd.reason) if error.rcvd else (1006, "")

    def waiting(self) -> list[Message]:
        """Return and clear the messages that were received but not returned yet."""
        messages = list(self._unread)
        self._unread.clear()
        return messages

    async def _receive(self) -> Message:
        while True:
            message: Message = json.loads(await self.connection.recv())
            if message["event"] != "session.position":
                self._unread.append(message)
                return message
            self.positions.append(message)

    async def _first(self, matches: Callable[[Message], bool], *, within_seconds: float, what: str) -> Message:
        for message in self._unread:
            if matches(message):
                self._unread.remove(message)
                return message
        try:
            async with asyncio.timeout(within_seconds):
                while True:
                    message = await self._receive()
                    if matches(message):
                        self._unread.pop()
                        return message
        except TimeoutError:
            last = list(self._unread)[-3:]
            raise TimeoutError(f"{what} was not received within {within_seconds} s; last messages: {last}") from None


@asynccontextmanager
async def connect(server: HasWebSocketUrl | str, *, path: str = "", **options: Any) -> AsyncIterator[Client]:
    """Open a connection, read `session.created`, and close it at the end; `options` go to `websockets.connect`."""
    url = (server if isinstance(server, str) else server.ws_url) + path
    settings = {
        "compression": None,
        "max_size": None,
        "max_queue": None,
        "ping_interval": None,
        "open_timeout": 30,
        **options,
    }
    async with websocket_connect(url, **settings) as connection:
        client = Client(connection)
        client.welcome = await client.next()
        yield client


async def wait_for_relay(server: HasWebSocketUrl, seq: int, **options: Any) -> None:
    """Wait until the server's relay has compared its rooms with the log up to `seq`.

    Until then new connections start at an older position, and pruning that event would close its subscribers.
    `options` go to `websockets.connect`.
    """
    async with asyncio.timeout(ANSWER_TIMEOUT_SECONDS):
        position = -1
        while position < seq:
            async with connect(server, **options) as client:
                position = client.welcome["data"]["seq"]
            await asyncio.sleep(0.05)
