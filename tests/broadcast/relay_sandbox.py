"""A relay of the test's own: a real one on the test's event loop, with the real log and the real bus.

Nothing happens by itself. The test says which events are committed, which of them are pushed and in which order, when
the relay compares itself with the log, and at which reading of the database something else comes in between.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from channels.layers import get_channel_layer
from django.db import transaction

from realtime import database
from realtime.broadcast import relay
from realtime.broadcast.message import GroupMessage, group_name
from realtime.broadcast.relay import Relay
from realtime.connection import handlers
from realtime.database import in_database_thread
from realtime.eventlog.append import Delivery, NewEvent, append_events
from realtime.limits import Limits
from realtime.protocol.frames import Frames
from realtime.protocol.messages import encode_event, utc_now
from realtime.protocol.requests import Subscribe, Unsubscribe
from realtime.queries.status import StatusQueries

ARRIVAL_TIMEOUT_SECONDS = 30.0

NEVER_SECONDS = 1e6

_MARKERS = "markers"


class Subscriber:
    """A connection that keeps what was written to it, and that takes a client's requests."""

    def __init__(self, of: Relay, limits: Limits | None = None) -> None:
        self.id = "subscriber"
        self.relay = of
        self.limits = limits or Limits()
        self.statuses = StatusQueries()
        self.channels: set[str] = set()
        self.messages: list[dict[str, Any]] = []
        self.writes = 0
        self.must_start_over = False
        self._written = asyncio.Event()

    def write(self, frames: Frames) -> None:
        self.writes += 1
        self.messages += map(json.loads, frames.messages)
        self._written.set()

    def on_log_reset(self) -> None:
        self.must_start_over = True

    def on_server_error(self) -> None:
        raise AssertionError("the server closed the connection")

    def on_server_draining(self, *, retry_after_ms: int) -> None:
        raise AssertionError("the server is not draining")

    async def caught_up(self) -> None:
        return

    @property
    def seqs(self) -> list[int]:
        return [message["seq"] for message in self.messages]

    async def has(self, count: int) -> None:
        """Return when so many messages were written."""
        async with asyncio.timeout(ARRIVAL_TIMEOUT_SECONDS):
            while len(self.messages) < count:
                self._written.clear()
                await self._written.wait()

    async def subscribe(self, channel: str, **options: Any) -> Any:
        """Subscribe as a client does, and return the answer's data when all that follows it was written."""
        answered = await handlers.handle(self, Subscribe(channel=channel, **options))
        if answered.after_send is not None:
            await answered.after_send()
        return answered.data

    async def unsubscribe(self, channel: str) -> None:
        await handlers.handle(self, Unsubscribe(channel=channel))


class Pause:
    """One reading of the database that is held up."""

    def __init__(self) -> None:
        self._reached = asyncio.Event()
        self._over = asyncio.Event()

    async def reached(self) -> None:
        """Return when the reading is there."""
        async with asyncio.timeout(ARRIVAL_TIMEOUT_SECONDS):
            await self._reached.wait()

    async def wait(self) -> None:
        self._reached.set()
        await self._over.wait()

    def end(self) -> None:
        self._over.set()


class Stage:
    """A relay and what happens around it."""

    def __init__(self, limits: Limits, patch: pytest.MonkeyPatch) -> None:
        self.relay = Relay(limits)
        self.reads: list[str] = []
        self._patch = patch
        self._pauses: dict[str, tuple[Pause, bool]] = {}
        self._failing: list[str] = []
        self._marks = itertools.count(1)
        for module in (relay, database, handlers):
            patch.setattr(module, "in_database_thread", self._read)

    @property
    def epoch(self) -> str:
        assert self.relay.position is not None
        return self.relay.position.epoch

    async def _read(self, query: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.reads.append(query.__name__)
        pause, is_after = self._pauses.pop(query.__name__, (None, False))
        if pause is not None and not is_after:
            await pause.wait()
        if query.__name__ in self._failing:
            self._failing.remove(query.__name__)
            raise OSError("the database is away")
        found = await in_database_thread(query, *args, **kwargs)
        if pause is not None and is_after:
            await pause.wait()
        return found

    @contextmanager
    def paused(self, query: str, *, after_reading: bool) -> Iterator[Pause]:
        """Hold up the next reading called `query`, before it reads or with what it read, to the end of the block."""
        pause = Pause()
        self._pauses[query] = (pause, after_reading)
        try:
            yield pause
        finally:
            pause.end()

    def fail_next(self, query: str) -> None:
        """Let the next reading called `query` fail."""
        self._failing.append(query)

    async def commit(self, *rooms: str, count: int = 1) -> list[Delivery]:
        """Write events into the log, all in these rooms and in one transaction, and push none of them."""
        return await in_database_thread(_commit, rooms, count)

    async def follow_up_to_now(self) -> None:
        """Let the relay know where the log stands; in a test's database it need not begin at 1."""
        await self.commit("worker:nobody")
        await self.relay.compare_with_log()

    async def push(self, deliveries: Iterable[Delivery], *, room: str) -> None:
        """Push what is for `room`, each event in a message of its own."""
        for delivery in deliveries:
            if delivery.room == room:
                await push_entries(group_name(room, epoch=delivery.epoch), room, [entry(delivery)])

    async def open(self) -> None:
        """Start the relay, and a channel of ours beside its own that tells how far the layer has listened."""
        await self.relay.start()
        await self.until(lambda: self.relay.groups.is_listening)
        layer = get_channel_layer()
        self._channel = await layer.new_channel()
        await layer.group_add(_MARKERS, self._channel)
        # The first ones may be too early: see `settle`.
        while layer.channels[self._channel].empty():
            await layer.group_send(_MARKERS, {"mark": 0})
            await asyncio.sleep(0.005)

    async def settle(self) -> None:
        """Return when Redis has done all it was told, and the relay has taken all that it brought.

        A layer does not wait until Redis has carried out a subscription; but Redis answers everybody in turn.
        """
        layer = get_channel_layer()
        mark = {"mark": next(self._marks)}
        await layer.group_send(_MARKERS, mark)
        async with asyncio.timeout(ARRIVAL_TIMEOUT_SECONDS):
            while await layer.receive(self._channel) != mark:
                pass
        # What was taken in a turn of the loop leaves at its end.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return when `condition()` is true."""
        async with asyncio.timeout(ARRIVAL_TIMEOUT_SECONDS):
            while not condition():  # noqa: ASYNC110 (the relay does not tell anyone)
                await asyncio.sleep(0.005)

    async def member(self, channel: str) -> Subscriber:
        """Somebody who subscribes to `channel`, from now on."""
        subscriber = Subscriber(self.relay)
        await subscriber.subscribe(channel)
        await self.settle()
        return subscriber


def _commit(rooms: tuple[str, ...], count: int) -> list[Delivery]:
    now = utc_now()
    with transaction.atomic():
        return append_events([NewEvent(name="workflow.started", timestamp=now, data="{}", rooms=rooms)] * count)


def entry(delivery: Delivery) -> tuple[int, int, float, bytes]:
    event = delivery.event
    message = encode_event(event, room=delivery.room)
    return delivery.previous_seq, event.seq, event.timestamp.timestamp(), message


async def push_entries(group: str, room: str, entries: list[tuple[int, int, float, bytes]]) -> None:
    await get_channel_layer().group_send(group, GroupMessage(type="relay.deliver", room=room, entries=entries))


@asynccontextmanager
async def on_stage(patch: pytest.MonkeyPatch, **limits: Any) -> AsyncIterator[Stage]:
    """A relay that listens, and that compares itself with the log only when it is told to."""
    stage = Stage(
        Limits(**{"relay_poll_seconds": NEVER_SECONDS, "publish_timeout_seconds": NEVER_SECONDS, **limits}), patch
    )
    await stage.open()
    yield stage
    await stage.relay.stop()
    await get_channel_layer().flush()
