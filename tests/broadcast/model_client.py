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

PING_SECONDS = 0.05

# The kernel of a stalled client buffers little, so the server soon has bytes that it cannot send.
RECEIVE_BUFFER_BYTES = 16 * 1024


@dataclass(frozen=True)
class SubscribeResponse:
    """The response to a subscription, and the position in its request; None for the first subscription."""

    since: int | None
    epoch: str | None
    data: dict[str, Any]

    @property
    def is_recovered(self) -> bool:
        return bool(self.data.get("recovered", False))


@dataclass(frozen=True)
class ReceivedEvent:
    seq: int
    number: int
    replay: bool


@dataclass
class Subscription:
    """One room of one client, over all its connections.

    Attributes:
        position: Everything up to this seq was received in this room, or was reported as pruned.
        active: Whether the client is to be subscribed.
        is_live_here: Whether the last subscription of this connection was answered.
        history: Everything received, in order.
    """

    room: str
    position: int | None = None
    epoch: str | None = None
    active: bool = True
    is_live_here: bool = False
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
    """A client as the protocol describes it: it keeps one position and one epoch for each room.

    Attributes:
        resume_from: The position and the epoch from which a client that keeps one number resumes all its rooms. It
            still drops the events that a room has received before. None for a client with a position for each room.
        moves: How often the server moved that number.
    """

    def __init__(self, server: MahavishnuServer, *, keeps_one_number: bool = False) -> None:
        self.keeps_one_number = keeps_one_number
        self.resume_from: tuple[int, str] | None = None
        self.moves = 0
        self._pinger: asyncio.Task[None] | None = None
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
        for subscription in self.subscriptions.values():
            subscription.is_live_here = False
        self._reader = asyncio.create_task(self._read(self._connection))
        if self.keeps_one_number:
            self._pinger = asyncio.create_task(self._ping(self._connection))
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
            if self.keeps_one_number:
                # The number moves on without this room: a later subscription begins anew.
                self.subscriptions[room].position = None

    async def drop(self) -> None:
        """Abort the connection, as a lost network does."""
        if self._pinger is not None:
            self._pinger.cancel()
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

    async def _ping(self, connection: ClientConnection) -> None:
        """Send pings for the positions in their pongs, until the connection closes."""
        try:
            while True:
                await asyncio.sleep(PING_SECONDS)
                await connection.send('{"type":"ping"}')
        except ConnectionClosed:
            return

    async def _subscribe(self, subscription: Subscription) -> None:
        data: dict[str, Any] = {"channel": subscription.room}
        subscription.is_live_here = False
        if subscription.position is None:
            data["snapshot"] = True
        elif self.resume_from is not None:
            data |= {"since": self.resume_from[0], "epoch": self.resume_from[1]}
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
            subscription.position = max(event.seq, subscription.position or 0)
        elif message["type"] == "pong" or message["event"] == "session.position":
            self._on_position(message["data"])
        elif message["event"] == "session.created":
            self._welcome = message["data"]
        self._progress.set()

    def _on_subscribed(
        self, subscription: Subscription, since: int | None, epoch: str | None, data: dict[str, Any]
    ) -> None:
        subscription.history.append(SubscribeResponse(since, epoch, data))
        subscription.epoch = data["epoch"]
        subscription.is_live_here = True
        if not data.get("recovered", False):
            subscription.position = data["seq"]
        if self.keeps_one_number and self._is_live and data["epoch"] == self._welcome["epoch"]:
            known = self.resume_from
            if known is None or known[1] != data["epoch"]:
                # The first number, and the first of another log, is from before all answers of this connection.
                self.resume_from = (self._welcome["seq"], self._welcome["epoch"])

    def _on_position(self, data: dict[str, Any]) -> None:
        if data and self.keeps_one_number and self._is_live:
            self.moves += 1
            self.resume_from = (data["seq"], data["epoch"])

    @property
    def _is_live(self) -> bool:
        return all(each.is_live_here for each in self.subscriptions.values() if each.active)
