"""A relay under the control of a test: a real one on the test's event loop, with a real log and a real Redis.

Nothing happens on its own. The test decides which events are committed, which of them are sent to their groups and in
which order, when the relay compares its rooms with the log, and which database read is paused or fails.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from channels.layers import get_channel_layer
from django.db import transaction
from django.utils import timezone

from realtime.auth.identity import ON_THIS_MACHINE, Identity
from realtime.broadcast import backfill, relay
from realtime.broadcast.envelope import Entry, GroupMessage, seal
from realtime.broadcast.groups import group_name
from realtime.broadcast.relay import Relay
from realtime.connection import handlers
from realtime.connection.replay_budget import ReplayBudget
from realtime.connection.stream_subscriptions import StreamSubscriptions
from realtime.database import in_database_thread, in_relay_thread
from realtime.eventlog.append import Delivery, NewEvent, append_events
from realtime.eventlog.retention import Retention, prune_events
from realtime.limits import Limits
from realtime.protocol.errors import RequestError
from realtime.protocol.frames import Frames
from realtime.protocol.messages import encode_event
from realtime.protocol.requests import Subscribe, Unsubscribe
from realtime.protocol.server_info import ServerStatusData
from realtime.queries import replay_reads, status
from realtime.queries.replay_reads import ReplayReads
from realtime.queries.status import StatusQueries
from realtime.streams.hub import StreamHub

ROOM, OTHER = "workflow:a", "workflow:b"

ARRIVAL_TIMEOUT_SECONDS = 30.0

NEVER_SECONDS = 1e6

_MARKERS = "markers"


class Subscriber:
    """A connection that stores what was written to it, and that handles a client's requests."""

    def __init__(self, of: Relay, limits: Limits | None = None, replay_queue: ReplayReads | None = None) -> None:
        self.id = "subscriber"
        self.relay = of
        self.limits = limits or Limits()
        self.statuses = StatusQueries(self.limits)
        self.replay_reads = replay_queue or ReplayReads(self.limits)
        self.replay_budget = ReplayBudget(self.limits)
        self.channels: set[str] = set()
        self.streams = StreamSubscriptions(StreamHub(self.limits), on_failure=self.on_server_error)
        self.identity = ON_THIS_MACHINE
        self.messages: list[dict[str, Any]] = []
        self.writes = 0
        self.was_reset = False
        self._written = asyncio.Event()

    def write(self, frames: Frames) -> None:
        self.writes += 1
        self.messages += map(json.loads, frames.messages)
        self._written.set()

    def on_log_reset(self) -> None:
        self.was_reset = True

    def on_server_error(self) -> None:
        raise AssertionError("the server closed the connection")

    async def authenticate(self, token: str) -> Identity:
        raise AssertionError("no request has a token")

    async def refresh(self, token: str) -> Identity:
        raise AssertionError("no request has a token")

    def watch_expiry(self) -> None:
        raise AssertionError("no identity expires")

    def close_unauthenticated(self, error: RequestError) -> None:
        raise AssertionError("no token was refused")

    def on_expired(self) -> None:
        raise AssertionError("no identity expires")

    def on_revoked(self) -> None:
        raise AssertionError("no identity was revoked")

    def on_too_many_forbidden(self) -> None:
        raise AssertionError("nothing is forbidden")

    def on_server_draining(self, *, retry_after_ms: int) -> None:
        raise AssertionError("the server is not draining")

    async def server_status(self) -> ServerStatusData:
        raise AssertionError("no request asks for it")

    async def caught_up(self) -> None: ...

    @property
    def seqs(self) -> list[int]:
        return [message["seq"] for message in self.messages]

    async def has(self, count: int) -> None:
        """Return when this many messages were written."""
        async with asyncio.timeout(ARRIVAL_TIMEOUT_SECONDS):
            while len(self.messages) < count:
                self._written.clear()
                await self._written.wait()

    async def subscribe(self, channel: str, **options: Any) -> Any:
        """Subscribe as a client does; return the data of the response once its replay was written."""
        response = await handlers.handle(self, Subscribe(channel=channel, **options))
        if isinstance(response, handlers.Queued):
            response = await response.response()
        if response.after_send is not None:
            await response.after_send()
        return response.data

    async def unsubscribe(self, channel: str) -> None:
        await handlers.handle(self, Unsubscribe(channel=channel))


class Pause:
    """One database read that is held."""

    def __init__(self) -> None:
        self._reached = asyncio.Event()
        self._ended = asyncio.Event()

    async def reached(self) -> None:
        """Return when the read is held."""
        async with asyncio.timeout(ARRIVAL_TIMEOUT_SECONDS):
            await self._reached.wait()

    async def wait(self) -> None:
        self._reached.set()
        await self._ended.wait()

    def end(self) -> None:
        self._ended.set()


class RelaySandbox:
    """A relay, its log and its channel layer."""

    def __init__(self, limits: Limits, patch: pytest.MonkeyPatch) -> None:
        self.reads: list[str] = []
        self._pauses: dict[str, tuple[Pause, bool]] = {}
        self._failing: list[str] = []
        self._marks = itertools.count(1)
        for module in (relay, backfill):
            patch.setattr(module, "in_relay_thread", partial(self._read, in_relay_thread))
        for module in (replay_reads, status):
            patch.setattr(module, "in_database_thread", partial(self._read, in_database_thread))
        self.relay = Relay(limits)

    @property
    def epoch(self) -> str:
        assert self.relay.position is not None
        return self.relay.position.epoch

    async def _read(
        self, run: Callable[..., Awaitable[Any]], query: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        self.reads.append(query.__name__)
        pause, is_after = self._pauses.pop(query.__name__, (None, False))
        if pause is not None and not is_after:
            await pause.wait()
        if query.__name__ in self._failing:
            self._failing.remove(query.__name__)
            raise OSError("database unavailable")
        found = await run(query, *args, **kwargs)
        if pause is not None and is_after:
            await pause.wait()
        return found

    @contextmanager
    def paused(self, query: str, *, after_reading: bool) -> Iterator[Pause]:
        """Hold the next read called `query` until the end of the block, before it reads or with its result."""
        pause = Pause()
        self._pauses[query] = (pause, after_reading)
        try:
            yield pause
        finally:
            pause.end()

    def fail_next(self, query: str) -> None:
        """Make the next read called `query` fail."""
        self._failing.append(query)

    async def commit(
        self, *rooms: str, count: int = 1, name: str = "workflow.started", data: str = "{}"
    ) -> list[Delivery]:
        """Append events to the log, all in these rooms and in one transaction, and send none of them."""
        return await in_database_thread(_commit, rooms, count, name, data)

    async def catch_up(self) -> None:
        """Move the relay to the end of the log, which need not begin at 1 in a test's database."""
        await self.commit("worker:unused")
        await self.relay.backfill.compare_with_log()

    async def send(self, deliveries: Iterable[Delivery], *, room: str) -> None:
        """Send the deliveries of `room` to its group, each in its own message."""
        for delivery in deliveries:
            if delivery.room == room:
                await send_entries(delivery, room, [entry(delivery)])

    async def start(self) -> None:
        """Start the relay, and a second channel that shows what the layer has received."""
        await self.relay.start()
        await self.until(lambda: self.relay.groups._layer_channel is not None)
        layer = get_channel_layer()
        self._channel = await layer.new_channel()
        await layer.group_add(_MARKERS, self._channel)
        # The first ones may be too early: see `settle`.
        while layer.channels[self._channel].empty():
            await layer.group_send(_MARKERS, {"mark": 0})
            await asyncio.sleep(0.005)

    async def settle(self) -> None:
        """Return when Redis has processed all calls, and the relay has processed all messages.

        A layer does not wait until Redis has processed a subscription; but Redis processes all calls in order.
        """
        layer = get_channel_layer()
        mark = {"mark": next(self._marks)}
        await layer.group_send(_MARKERS, mark)
        async with asyncio.timeout(ARRIVAL_TIMEOUT_SECONDS):
            while await layer.receive(self._channel) != mark:
                pass
        # Events delivered in a turn of the loop are written at its end.
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return when `condition()` is true."""
        async with asyncio.timeout(ARRIVAL_TIMEOUT_SECONDS):
            while not condition():  # noqa: ASYNC110 (the relay has no event for it)
                await asyncio.sleep(0.005)

    async def member(self, channel: str) -> Subscriber:
        """Return a new live subscriber of `channel`."""
        subscriber = Subscriber(self.relay)
        await subscriber.subscribe(channel)
        await self.settle()
        return subscriber


def _commit(rooms: tuple[str, ...], count: int, name: str, data: str) -> list[Delivery]:
    now = timezone.now()
    with transaction.atomic():
        return append_events([NewEvent(name=name, timestamp=now, data=data, rooms=rooms)] * count)


def entry(delivery: Delivery) -> Entry:
    event = delivery.event
    message = encode_event(event, room=delivery.room)
    return delivery.previous_seq, event.seq, event.timestamp.timestamp(), message


async def send_entries(log: Delivery, room: str, entries: list[Entry]) -> None:
    """Send entries to the group of a room, sealed with the key of the log that contains a delivery."""
    envelope = seal(GroupMessage(room, entries), bus_key=log.bus_key)
    await get_channel_layer().group_send(group_name(room, epoch=log.epoch), envelope)


def seqs_of(deliveries: list[Delivery], room: str = ROOM) -> list[int]:
    return [delivery.event.seq for delivery in deliveries if delivery.room == room]


async def prune(*, keep: int) -> None:
    retention = Retention(max_events=keep, max_age=timedelta(days=1), min_age=timedelta(0))
    await in_database_thread(prune_events, retention, at=timezone.now())


@asynccontextmanager
async def running_sandbox(patch: pytest.MonkeyPatch, **limits: Any) -> AsyncIterator[RelaySandbox]:
    """Run a relay that receives group messages, and compares its rooms with the log only when the test does so."""
    never = {"relay_poll_seconds": NEVER_SECONDS, "publish_timeout_seconds": NEVER_SECONDS}
    sandbox = RelaySandbox(Limits(**{**never, **limits}), patch)
    await sandbox.start()
    yield sandbox
    tasks = [*sandbox.relay._tasks, *sandbox.relay._background]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await get_channel_layer().flush()
