"""The parts of the model-based test: clients that remember what a client should, writers that say what they committed.

What a client received is kept in the order in which it came, and judged at the end, when it is known what was
committed: see `judge`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import threading
from collections.abc import Coroutine, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as websocket_connect
from websockets.exceptions import ConnectionClosed

from tests.harness.ports import HOST
from tests.harness.server import MahavishnuServer

T = TypeVar("T")

ANSWER_TIMEOUT_SECONDS = 40.0
ARRIVAL_TIMEOUT_SECONDS = 40.0

# A stalled client's kernel takes little, so that the server soon has bytes it cannot send.
RECEIVE_BUFFER_BYTES = 16 * 1024

# Announces events in one transaction each, and answers with those that were committed: `[seq, number, rooms]`.
_WRITE = """
from django.db import transaction
from realtime.events.receivers import announce_as_given
from realtime.protocol.messages import utc_now
result = []
for transaction_of in transactions:
    written = []
    try:
        with transaction.atomic():
            for number, rooms in transaction_of["events"]:
                announce_as_given(
                    "model.event",
                    data={"number": number, "padding": "x" * transaction_of["padding"]},
                    rooms=tuple(rooms),
                    timestamp=utc_now(),
                    on_written=lambda seq, number=number, rooms=rooms: written.append([seq, number, rooms]),
                )
            if transaction_of["undone"]:
                raise InterruptedError
    except InterruptedError:
        continue
    result += written
"""

_PRUNE = """
from datetime import timedelta
from realtime.eventlog.position import current_position
from realtime.eventlog.retention import Retention, prune_events
from realtime.protocol.messages import utc_now
prune_events(Retention(max_events=keep, max_age=timedelta(days=1), min_age=timedelta(0)), at=utc_now())
result = current_position().trimmed_seq
"""

_RENEW = "from realtime.eventlog.position import renew_epoch\nresult = renew_epoch()"


@dataclass(frozen=True)
class Committed:
    """One event that is in the log, or was until it was pruned."""

    seq: int
    number: int
    rooms: tuple[str, ...]


@dataclass(frozen=True)
class Answered:
    """The answer to a subscription, and the position it was asked with; None for a first one."""

    since: int | None
    epoch: str | None
    data: dict[str, Any]


@dataclass(frozen=True)
class Received:
    seq: int
    number: int
    replay: bool


@dataclass
class Subscription:
    """One room of one client, over all its connections.

    Attributes:
        position: What the client remembers: the last seq it was given in this room.
        active: Whether it wants to be subscribed.
        story: Everything that came, in order.
    """

    room: str
    position: int | None = None
    epoch: str | None = None
    active: bool = True
    story: list[Answered | Received] = field(default_factory=list)


class Loop:
    """An event loop in a thread of its own, for the clients of a test that is not asynchronous."""

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
    """A client as the documentation asks for: it keeps one number for each room, and one string."""

    def __init__(self, server: MahavishnuServer) -> None:
        self._server = server
        self._connection: ClientConnection | None = None
        self._reader: asyncio.Task[None] | None = None
        self._answers: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._asked: dict[str, tuple[Subscription, int | None, str | None]] = {}
        self._numbers = itertools.count(1)
        self._progress = asyncio.Event()
        self.subscriptions: dict[str, Subscription] = {}
        self.stalled = False
        self.closed_with: list[str] = []

    @property
    def is_connected(self) -> bool:
        if self._reader is None or not self._reader.done():
            return self._reader is not None
        # A message that should not have come.
        if (error := self._reader.exception()) is not None:
            raise error
        return False

    async def connect(self) -> None:
        """Open a connection and subscribe again to every room, from where each was left."""
        own = socket.socket()
        own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        own.setblocking(False)
        await asyncio.get_running_loop().sock_connect(own, (HOST, self._server.port))
        self._connection = await websocket_connect(
            self._server.ws_url, sock=own, compression=None, max_size=None, max_queue=None, ping_interval=None
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
        # Until the answer, events of the room may still come.
        if await self._ask("unsubscribe", {"channel": room}) is not None:
            self.subscriptions[room].active = False

    async def drop(self) -> None:
        """Be gone, as a client whose network is."""
        if self._connection is not None:
            self._connection.transport.abort()
            await self._gone()

    async def stall(self) -> None:
        """Take nothing more from the connection."""
        if self._connection is not None and not self.stalled:
            self._connection.transport.pause_reading()
            self.stalled = True

    async def go_on(self) -> None:
        if self._connection is not None and self.stalled:
            self._connection.transport.resume_reading()
            self.stalled = False

    async def reaches(self, room: str, seq: int) -> None:
        """Return when this client was given that event; connect again as often as it is closed."""
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
        await self._ask("subscribe", data, subscription)

    async def _ask(
        self, event: str, data: dict[str, Any], subscription: Subscription | None = None
    ) -> dict[str, Any] | None:
        """The answer's data; None if the connection ended first."""
        assert self._connection is not None
        request_id = f"{event}_{next(self._numbers)}"
        answer = self._answers[request_id] = asyncio.get_running_loop().create_future()
        if subscription is not None:
            self._asked[request_id] = (subscription, data.get("since"), data.get("epoch"))
        message = json.dumps({"type": "request", "event": event, "data": data, "id": request_id})
        try:
            await self._connection.send(message)
        except ConnectionClosed:
            await self._gone()
            return None
        assert self._reader is not None
        await asyncio.wait([answer, self._reader], timeout=ANSWER_TIMEOUT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        assert answer.done() or self._reader.done(), f"{message} was not answered"
        return answer.result()["data"] if answer.done() else None

    async def _read(self, connection: ClientConnection) -> None:
        try:
            while True:
                self._take(json.loads(await connection.recv()))
        except ConnectionClosed as error:
            self.closed_with.append(str(error.rcvd))

    async def _gone(self) -> None:
        if self._reader is not None:
            await asyncio.wait([self._reader], timeout=ANSWER_TIMEOUT_SECONDS)
            assert self._reader.done(), "the connection does not end"

    def _take(self, message: dict[str, Any]) -> None:
        if message["type"] == "response":
            request_id = message["correlation_id"]
            if request_id in self._asked:
                self._take_start(*self._asked[request_id], message["data"])
            self._answers[request_id].set_result(message)
        elif message["type"] == "error":
            assert message["retryable"], message
            self.closed_with.append(message["error_code"])
        elif "room" in message:
            subscription = self.subscriptions[message["room"]]
            received = Received(message["seq"], message["data"]["number"], message.get("replay", False))
            subscription.story.append(received)
            subscription.position = received.seq
        self._progress.set()

    @staticmethod
    def _take_start(subscription: Subscription, since: int | None, epoch: str | None, data: dict[str, Any]) -> None:
        subscription.story.append(Answered(since, epoch, data))
        subscription.epoch = data["epoch"]
        if not data.get("recovered", False):
            subscription.position = data["seq"]


class Writers:
    """Processes that announce events, each one order at a time, and the list of all that they committed."""

    def __init__(self, server: MahavishnuServer, count: int) -> None:
        self._drivers = [server.driver() for _ in range(count)]
        self._threads = [ThreadPoolExecutor(1) for _ in range(count)]
        self._numbers = itertools.count(1)
        self._under_way: list[Future[list[Any]]] = []
        self.committed: list[Committed] = []
        self.trimmed_seq = 0

    def start(self, writer: int, transactions: Iterable[tuple[list[list[str]], int, bool]]) -> None:
        """Begin to write: for each transaction the rooms of its events, bytes of padding, whether it is undone."""
        orders = [
            {"events": [(next(self._numbers), rooms) for rooms in of_each], "padding": padding, "undone": undone}
            for of_each, padding, undone in transactions
        ]
        driver = self._drivers[writer]
        self._under_way.append(self._threads[writer].submit(driver.execute, _WRITE, transactions=orders))

    def finish(self) -> None:
        """Wait for what was begun."""
        for writing in self._under_way:
            self.committed += [Committed(seq, number, tuple(rooms)) for seq, number, rooms in writing.result()]
        self._under_way.clear()
        self.committed.sort(key=lambda event: event.seq)

    def prune(self, keep: int) -> None:
        self.trimmed_seq = self._threads[0].submit(self._drivers[0].execute, _PRUNE, keep=keep).result()

    def renew_epoch(self) -> str:
        epoch: str = self._threads[0].submit(self._drivers[0].execute, _RENEW).result()
        return epoch

    def close(self) -> None:
        for threads in self._threads:
            threads.shutdown()


def judge(subscription: Subscription, writers: Writers) -> None:
    """Hold what a client received in one room against what was committed: nothing lost, doubled or out of order.

    Events may be left out only where the client was told, and only for a reason that is true.
    """
    room = subscription.room
    in_room = [event for event in writers.committed if room == "global" or room in event.rooms]
    position = -1
    answered_seq = -1
    for entry in subscription.story:
        if isinstance(entry, Answered):
            assert entry.since is None or entry.since == position, (entry, position)
            answered_seq = -1
            if entry.since is None:
                position = entry.data["seq"]
            elif entry.data["recovered"]:
                answered_seq = entry.data["seq"]
                missed = [event.seq for event in in_room if position < event.seq <= answered_seq]
                assert entry.data["missed"] == len(missed), (entry, missed)
            else:
                assert entry.data["missed"] == 0
                if entry.data["reason"] == "epoch":
                    assert entry.epoch != entry.data["epoch"]
                else:
                    assert (entry.data["reason"], entry.since < writers.trimmed_seq) == ("trimmed", True), entry
                position = entry.data["seq"]
        else:
            expected = next(event for event in in_room if event.seq > position)
            assert (entry.seq, entry.number) == (expected.seq, expected.number), (entry, expected)
            assert entry.replay == (entry.seq <= answered_seq), (entry, answered_seq)
            position = entry.seq
    assert position >= in_room[-1].seq, f"{room}: {position} is the last of those up to {in_room[-1].seq}"
