"""A stream of changes from another process, and the events that a client receives of it."""

from __future__ import annotations

import asyncio
import json
import statistics
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import Any

from websockets.exceptions import ConnectionClosed

from tests.harness.client import Client, Message
from tests.harness.server import MahavishnuServer
from tests.harness.services import Driver

WORKERS = ("w0", "w1", "w2")

ROOMS = ("global", "pool:p", "worker:w1")

PUBLISH_TIMEOUT_SECONDS = 1.0

OUTAGE_LATENCY_SECONDS = 2.0
"""How late an event may be during an outage."""

RELAY_POLL_SECONDS = 1.0

# The channel layer takes milliseconds, a comparison with the log up to a second: where most events were this fast, the
# channel layer delivered them. (One in four is this fast by comparison, and a busy machine delays some messages.)
FAST_SECONDS = 0.25
SAMPLED_EVENTS = 40
FAST_EVENTS = 30

_STREAM = """
import os, time
from orchestration import services
changes = 0
while not os.path.exists(stop):
    worker_id = workers[changes % len(workers)]
    services.change_worker_status(worker_id=worker_id, status=("busy", "idle")[changes // len(workers) % 2])
    changes += 1
    time.sleep(pause_seconds)
result = changes
"""

_COMMITTED = """
from realtime.models import Event, EventRoom
in_all = Event.objects.order_by("seq").values_list("seq", "message_id")
in_room = EventRoom.objects.filter(room=room).order_by("event_id").values_list("event_id", "event__message_id")
result = [[seq, str(id)] for seq, id in (in_all if room == "global" else in_room)]
"""

ReceivedEvent = tuple[int, str]
"""An event's seq and id."""


def prepare(server: MahavishnuServer, pool_id: str = "p") -> None:
    """Create a pool with the workers that `streaming` changes."""
    server.services.create_pool(pool_id=pool_id)
    for worker_id in WORKERS:
        server.services.register_worker(worker_id=worker_id, pool_id=pool_id)


@contextmanager
def streaming(server: MahavishnuServer, *, changes_per_second: float = 30) -> Iterator[Driver]:
    """Change the workers one after the other, in another process, until the end of the block."""
    driver = server.driver()
    stop = server.var_dir / "stop-streaming"
    stop.unlink(missing_ok=True)
    failures: list[BaseException] = []

    def run() -> None:
        try:
            driver.execute(_STREAM, stop=str(stop), workers=WORKERS, pause_seconds=1 / changes_per_second)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield driver
    finally:
        stop.touch()
        thread.join()
    assert failures == []


def committed(server: MahavishnuServer, room: str) -> list[ReceivedEvent]:
    """Return the seq and the id of every event of a room in the log, in order."""
    return [(seq, message_id) for seq, message_id in server.services_driver.execute(_COMMITTED, room=room)]


class Record:
    """The events that a client received, each with its latency in seconds."""

    def __init__(self, client: Client) -> None:
        self.events: list[tuple[Message, float]] = []
        self._client = client
        self._arrived = asyncio.Event()

    def received(self, room: str) -> list[ReceivedEvent]:
        return [(event["seq"], event["id"]) for event, _ in self.events if event["room"] == room]

    def latencies(self, *, after: int = 0) -> list[float]:
        return [seconds for _, seconds in self.events[after:]]

    async def more(self, count: int, *, within_seconds: float = 60) -> list[float]:
        """Return the latencies of the next `count` events."""
        start = len(self.events)
        await self._until(lambda: len(self.events) >= start + count, within_seconds)
        return self.latencies(after=start)

    async def until_fast(self, *, within_seconds: float = 60) -> None:
        """Return when most of the newest events arrived through the channel layer."""
        start = len(self.events)

        def is_fast() -> bool:
            newest = self.latencies(after=max(start, len(self.events) - SAMPLED_EVENTS))
            fast = sum(seconds < FAST_SECONDS for seconds in newest)
            return len(newest) == SAMPLED_EVENTS and fast >= FAST_EVENTS

        await self._until(is_fast, within_seconds)

    async def has_received(self, room: str, seq: int, *, within_seconds: float = 60) -> None:
        await self._until(lambda: any(found == seq for found, _ in self.received(room)), within_seconds)

    async def _until(self, condition: Any, within_seconds: float) -> None:
        try:
            async with asyncio.timeout(within_seconds):
                while not condition():
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            raise TimeoutError(f"not within {within_seconds} s; the last took {self.latencies()[-50:]} s") from None

    async def run(self) -> None:
        for message in self._client.waiting():
            self._append(message)
        while True:
            try:
                self._append(json.loads(await self._client.connection.recv()))
            except ConnectionClosed:
                return

    def _append(self, message: Message) -> None:
        assert message["type"] == "event", message
        if message["event"] == "session.position":
            return
        happened = datetime.fromisoformat(message["timestamp"]).timestamp()
        self.events.append((message, time.time() - happened))
        self._arrived.set()


@asynccontextmanager
async def recording(client: Client) -> AsyncIterator[Record]:
    """Record what a client receives until the end of the block. Nothing else may read from it in the block."""
    record = Record(client)
    task = asyncio.create_task(record.run())
    yield record
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def subscribe_to_all(client: Client) -> list[float]:
    """Subscribe to each room; return the seconds that each took."""
    return [await seconds_to_subscribe(client, room) for room in ROOMS]


async def seconds_to_subscribe(client: Client, room: str) -> float:
    began = time.monotonic()
    await client.subscribe(room)
    return time.monotonic() - began


async def assert_all_received(server: MahavishnuServer, record: Record, *, after: int) -> None:
    """Check that each room received exactly what was committed above `after`, in order."""
    for room in ROOMS:
        in_log = [(seq, id) for seq, id in committed(server, room) if seq > after]
        await record.has_received(room, in_log[-1][0])
        assert record.received(room) == in_log


def assert_in_time(latencies: list[float]) -> None:
    """Check latencies during an outage, when events arrive by comparison with the log.

    Their latency is between zero and the interval of the comparisons, half of it in the middle. A busy machine delays
    some events, but not half of them, and not one in ten beyond the limit.
    """
    assert sorted(latencies)[len(latencies) * 9 // 10] < OUTAGE_LATENCY_SECONDS, sorted(latencies)
    assert statistics.median(latencies) < OUTAGE_LATENCY_SECONDS / 2, sorted(latencies)
