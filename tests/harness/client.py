"""A WebSocket client that keeps every message in order and picks answers out by their `correlation_id`."""

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
    """Raised when a message came where none, or another one, was expected."""


class Client:
    """One connection; `welcome` is its first message.

    Messages that nobody asked for yet wait in order. Nothing runs in the background: what is not read here stays in
    the connection, which reads ahead without bound.
    """

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.welcome: Message = {}
        self._waiting: deque[Message] = deque()
        self._numbers = itertools.count(1)

    async def send(self, message: Any) -> None:
        """Send one value as JSON."""
        await self.connection.send(json.dumps(message))

    async def send_raw(self, message: str | bytes) -> None:
        """Send a text or a binary message as it is."""
        await self.connection.send(message)

    async def request(self, event: str, *, within_seconds: float = ANSWER_TIMEOUT_SECONDS, **data: Any) -> Message:
        """Send a request and return its whole answer, a response or an error; events that come first wait."""
        request_id = f"{event}_{next(self._numbers):03}"
        await self.send({"type": "request", "event": event, "data": data, "id": request_id})
        return await self.answer_to(request_id, within_seconds=within_seconds)

    async def answer_to(self, request_id: str, *, within_seconds: float = ANSWER_TIMEOUT_SECONDS) -> Message:
        return await self._take(
            lambda message: message.get("correlation_id") == request_id and message["type"] in ("response", "error"),
            within_seconds=within_seconds,
            what=f"an answer to {request_id}",
        )

    async def subscribe(self, channel: str, **options: Any) -> Message:
        """Subscribe and return the response.

        Raises:
            UnexpectedMessageError: the answer was an error.
        """
        answer = await self.request("subscribe", channel=channel, **options)
        if answer["type"] != "response":
            raise UnexpectedMessageError(f"subscribing to {channel} was answered with {answer}")
        return answer

    async def unsubscribe(self, channel: str) -> Message:
        return await self.request("unsubscribe", channel=channel)

    async def next(self, within_seconds: float = ANSWER_TIMEOUT_SECONDS) -> Message:
        """Return the next message of any kind."""
        return await self._take(lambda message: True, within_seconds=within_seconds, what="a message")

    async def event(self, name: str | None = None, *, within_seconds: float = ANSWER_TIMEOUT_SECONDS) -> Message:
        """Return the next event, or the next one of that name; what comes before it goes on waiting."""
        return await self._take(
            lambda message: message["type"] == "event" and name in (None, message["event"]),
            within_seconds=within_seconds,
            what=name or "an event",
        )

    async def events(self, count: int, within_seconds: float = ANSWER_TIMEOUT_SECONDS) -> list[Message]:
        """Return the next `count` events, within so many seconds for all of them."""
        received: list[Message] = []
        try:
            async with asyncio.timeout(within_seconds):
                while len(received) < count:
                    received.append(await self.event(within_seconds=within_seconds))
        except TimeoutError:
            raise TimeoutError(
                f"{len(received)} of {count} events came within {within_seconds} s: {received[-3:]}"
            ) from None
        return received

    async def expect_nothing(self, seconds: float) -> None:
        """Return when no message waits and none came for so long.

        Raises:
            UnexpectedMessageError: one did.
        """
        try:
            message = await self.next(within_seconds=seconds)
        except TimeoutError:
            return
        raise UnexpectedMessageError(f"nothing was expected, and this came: {message}")

    async def wait_closed(self, within_seconds: float = ANSWER_TIMEOUT_SECONDS) -> tuple[int, str]:
        """Read to the end of the connection and return its close code and reason; the messages read go on waiting."""
        try:
            async with asyncio.timeout(within_seconds):
                while True:
                    await self._receive()
        except ConnectionClosed as error:
            return (error.rcvd.code, error.rcvd.reason) if error.rcvd else (1006, "")

    def waiting(self) -> list[Message]:
        """Return, and forget, the messages that were received and not asked for."""
        messages = list(self._waiting)
        self._waiting.clear()
        return messages

    async def _receive(self) -> Message:
        text = await self.connection.recv()
        message: Message = json.loads(text)
        self._waiting.append(message)
        return message

    async def _take(self, wanted: Callable[[Message], bool], *, within_seconds: float, what: str) -> Message:
        for message in self._waiting:
            if wanted(message):
                self._waiting.remove(message)
                return message
        try:
            async with asyncio.timeout(within_seconds):
                while True:
                    message = await self._receive()
                    if wanted(message):
                        self._waiting.pop()
                        return message
        except TimeoutError:
            last = list(self._waiting)[-3:]
            raise TimeoutError(f"{what} did not come within {within_seconds} s; waiting: {last}") from None


@asynccontextmanager
async def connect(server: HasWebSocketUrl | str, *, path: str = "", **options: Any) -> AsyncIterator[Client]:
    """Open a connection, read its welcome, and close it at the end; `options` go to `websockets.connect`."""
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
