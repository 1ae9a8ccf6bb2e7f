"""The clients of the model-based test: each keeps the state that the protocol asks a client to keep.

A client stores all that it received, in order. It is checked at the end, when all commits are known: see
`tests.broadcast.model_writers.check_history`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import threading
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as websocket_connect
from websockets.exceptions import ConnectionClosed

from tests.harness.ports import HOST
from tests.harness.server import MahavishnuServer

T = TypeVar("T")

RESPONSE_TIMEOUT_SECONDS = 40.0
ARRIVAL_TIMEOUT_SECONDS = 40.0

# The kernel of a stalled client buffers little, so the server soon has bytes that it cannot send.
RECEIVE_BUFFER_BYTES = 16 * 1024


@dataclass(frozen=True)
class SubscribeResponse:
    """The response to a subscription, and the position in its request; None for the first subscription."""

    since: int | None
    epoch: str | None
    data: dict[str, Any]


@dataclass(frozen=True)
class ReceivedEvent:
    seq: int
    number: int
    replay: bool


@dataclass
class Subscription:
    """One room of one client, over all its connections.

    Attributes:
        position: The seq of the last event received in this room.
        active: Whether the client is to be subscribed.
        history: Everything received, in order.
    """

    room: str
    position: int | None = None
    epoch: str | None = None
    active: bool = True
    history: list[SubscribeResponse | ReceivedEvent] = field(default_factory=list)


class ClientLoop:
    """An event loop in another thread, for the clients of a test that is not asynchronous."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="clients", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class ModelClient:
    """A client as the protocol describes it: it keeps one position and one epoch for each room."""

    def __init__(self, server: MahavishnuServer) -> None:
        self._server = server
        self._connection: ClientConnection | None = None
        self._reader: asyncio.Task[None] | None = None
        self._responses: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._subscribing: dict[str, tuple[Subscription, int | None, str | None]] = {}
        self._numbers = itertools.count(1)
        self._progress = asyncio.Event()
        self.subscriptions: dict[str, Subscription] = {}
        self.stalled = False
        self.closed_with: list[str] = []

    @property
    def is_connected(self) -> bool:
        if self._reader is None or not self._reader.done():
            return self._reader is not None
        # An unexpected message.
        if (error := self._reader.exception()) is not None:
            raise error
        return False

    async def connect(self) -> None:
        """Open a connection and subscribe again to every room, from its last position."""
        client_socket = socket.socket()
        client_socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        client_socket.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client_socket, (HOST, self._server.port))
        self._connection = await websocket_connect(
            self._server.ws_url, sock=client_socket, compression=None, max_size=None, max_queue=None, ping_interval=None
        )
        self.stalled = False
        self._reader = asyncio.create_task(self._read(self._connection))
        for subscription in list(self.subscriptions.values()):
            if subscription.active and self.is_connected:
                await self._subscribe(subscription)

    async def subscribe(self, room: str) -> None:
        subscription = self.subscriptions.setdefault(room, Subscription(room))
        subscription.active = True
        await self._subscribe(subscription)

    async def unsubscribe(self, room: str) -> None:
        # Until the response, events of the room may still arrive.
        if await self._request("unsubscribe", {"channel": room}) is not None:
            self.subscriptions[room].active = False

    async def drop(self) -> None:
        """Abort the connection, as a lost network does."""
        if self._connection is not None:
            self._connection.transport.abort()
            await self._closed()

    async def stall(self) -> None:
        """Stop reading from the connection."""
        if self._connection is not None and not self.stalled:
            self._connection.transport.pause_reading()
            self.stalled = True

    async def resume_reading(self) -> None:
        if self._connection is not None and self.stalled:
            self._connection.transport.resume_reading()
            self.stalled = False

    async def reaches(self, room: str, seq: int) -> None:
        """Return when this client has received that event. Connect again whenever the connection closes."""
        subscription = self.subscriptions[room]
        async with asyncio.timeout(ARRIVAL_TIMEOUT_SECONDS):
            while subscription.position is None or subscription.position < seq:
                if not self.is_connected:
                    await self.connect()
                self._progress.clear()
                try:
                    async with asyncio.timeout(0.1):
                        await self._progress.wait()
                except TimeoutError:
                    continue

    async def _subscribe(self, subscription: Subscription) -> None:
        data: dict[str, Any] = {"channel": subscription.room}
        if subscription.position is None:
            data["snapshot"] = True
        else:
            data |= {"since": subscription.position, "epoch": subscription.epoch}
        await self._request("subscribe", data, subscription)

    async def _request(
        self, event: str, data: dict[str, Any], subscription: Subscription | None = None
    ) -> dict[str, Any] | None:
        """Return the data of the response; None if the connection closes first."""
        assert self._connection is not None
        request_id = f"{event}_{next(self._numbers)}"
        response = self._responses[request_id] = asyncio.get_running_loop().create_future()
        if subscription is not None:
            self._subscribing[request_id] = (subscription, data.get("since"), data.get("epoch"))
        message = json.dumps({"type": "request", "event": event, "data": data, "id": request_id})
        try:
            await self._connection.send(message)
        except ConnectionClosed:
            await self._closed()
            return None
        assert self._reader is not None
        await asyncio.wait(
            [response, self._reader], timeout=RESPONSE_TIMEOUT_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        assert response.done() or self._reader.done(), f"no response to {message}"
        return response.result()["data"] if response.done() else None

    async def _read(self, connection: ClientConnection) -> None:
        try:
            while True:
                self._on_message(json.loads(await connection.recv()))
        except ConnectionClosed as error:
            self.closed_with.append(str(error.rcvd))

    async def _closed(self) -> None:
        if self._reader is not None:
            await asyncio.wait([self._reader], timeout=RESPONSE_TIMEOUT_SECONDS)
            assert self._reader.done(), "the connection did not close"

    def _on_message(self, message: dict[str, Any]) -> None:
        if message["type"] == "response":
            request_id = message["correlation_id"]
            if request_id in self._subscribing:
                self._on_subscribed(*self._subscribing[request_id], message["data"])
            self._responses[request_id].set_result(message)
        elif message["type"] == "error":
            assert message["retryable"], message
            self.closed_with.append(message["error_code"])
        elif "room" in message:
            subscription = self.subscriptions[message["room"]]
            event = ReceivedEvent(message["seq"], message["data"]["number"], message.get("replay", False))
            subscription.history.append(event)
            subscription.position = event.seq
        self._progress.set()

    @staticmethod
    def _on_subscribed(subscription: Subscription, since: int | None, epoch: str | None, data: dict[str, Any]) -> None:
        subscription.history.append(SubscribeResponse(since, epoch, data))
        subscription.epoch = data["epoch"]
        if not data.get("recovered", False):
            subscription.position = data["seq"]
