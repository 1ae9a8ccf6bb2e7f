"""A stream of changes from another process, and what a client receives of it."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from itertools import groupby
from typing import Any

from websockets.exceptions import ConnectionClosed

from tests.harness.client import Client, Message
from tests.harness.server import MahavishnuServer
from tests.harness.services import Driver

WORKERS = ("w0", "w1", "w2")

# A push takes milliseconds, a comparison with the log up to half a second: where most events were as fast as this, the
# bus has brought them. (A comparison is as fast with one in five, and a machine that is busy holds up some pushes.)
PUSHED_SECONDS = 0.1
LOOKED_AT_EVENTS = 40
PUSHED_EVENTS = 30

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

Seen = tuple[int, str]
"""An event's seq and id."""


def prepare(server: MahavishnuServer, pool_id: str = "p") -> None:
    """Make a pool with the workers whose changes are streamed."""
    server.services.create_pool(pool_id=pool_id)
    for worker_id in WORKERS:
        server.services.register_worker(worker_id=worker_id, pool_id=pool_id)


@contextmanager
def streaming(server: MahavishnuServer, *, changes_per_second: float = 30) -> Iterator[Driver]:
    """Change the workers, one after the other and in a process of its own, to the end of the block."""
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


def committed(server: MahavishnuServer, room: str) -> list[Seen]:
    """The seq and the id of every event of a room that the log has, in order."""
    return [(seq, message_id) for seq, message_id in server.services_driver.execute(_COMMITTED, room=room)]


class Record:
    """Every event a client received, each with how long after it happened, in seconds."""

    def __init__(self, client: Client) -> None:
        self.events: list[tuple[Message, float]] = []
        self._client = client
        self._arrived = asyncio.Event()

    def seen(self, room: str) -> list[Seen]:
        return [(event["seq"], event["id"]) for event, _ in self.events if event["room"] == room]

    def latencies(self, *, after: int = 0) -> list[float]:
        return [seconds for _, seconds in self.events[after:]]

    async def more(self, count: int, *, within_seconds: float = 60) -> list[float]:
        """The latencies of the next so many events."""
        start = len(self.events)
        await self._until(lambda: len(self.events) >= start + count, within_seconds)
        return self.latencies(after=start)

    async def until_pushed(self, *, within_seconds: float = 60) -> None:
        """Return when most of the newest events have come so fast that they were pushed."""
        start = len(self.events)

        def is_pushed() -> bool:
            newest = self.latencies(after=max(start, len(self.events) - LOOKED_AT_EVENTS))
            fast = sum(seconds < PUSHED_SECONDS for seconds in newest)
            return len(newest) == LOOKED_AT_EVENTS and fast >= PUSHED_EVENTS

        await self._until(is_pushed, within_seconds)

    async def has_seen(self, room: str, seq: int, *, within_seconds: float = 60) -> None:
        await self._until(lambda: any(found == seq for found, _ in self.seen(room)), within_seconds)

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
            self._keep(message)
        while True:
            try:
                self._keep(json.loads(await self._client.connection.recv()))
            except ConnectionClosed:
                return

    def _keep(self, message: Message) -> None:
        assert message["type"] == "event", message
        happened = datetime.fromisoformat(message["timestamp"]).timestamp()
        self.events.append((message, time.time() - happened))
        self._arrived.set()


@asynccontextmanager
async def recording(client: Client) -> AsyncIterator[Record]:
    """Record what a client receives, to the end of the block; it must not be used for anything else meanwhile."""
    record = Record(client)
    task = asyncio.create_task(record.run())
    yield record
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def assert_in_order_and_once(seen: list[Seen]) -> None:
    """What is received is in order, and nothing twice."""
    seqs = [seq for seq, _ in seen]
    assert seqs == sorted(set(seqs)), [list(group) for _, group in groupby(seqs)][:50]
