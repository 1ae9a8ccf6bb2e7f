"""Publishing to the channel layer: bounded, in order, without delaying the commit, and without loss on failure."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from channels.layers import get_channel_layer
from django.utils import timezone

from realtime.broadcast import publisher as publisher_module
from realtime.broadcast.envelope import GroupMessage, seal, unseal
from realtime.broadcast.groups import group_name
from realtime.broadcast.publisher import Publisher, publisher
from realtime.eventlog.append import Delivery
from realtime.protocol.messages import EventRecord
from tests.harness.valkey import Valkey, frozen
from tests.harness.waiting import wait_until

EPOCH = "0" * 32
BUS_KEY = "1" * 64
ROOM = "workflow:a"

ARRIVAL_TIMEOUT_SECONDS = 30.0

SEND_TIMEOUT_SECONDS = 4.0
"""Timeout for sending one message, in a test that waits for it."""


def deliveries(first: int, count: int, *, room: str = ROOM, data: str = "{}") -> list[Delivery]:
    return [
        Delivery(EPOCH, BUS_KEY, room, seq - 1, EventRecord(seq, f"id-{seq}", "workflow.started", timezone.now(), data))
        for seq in range(first, first + count)
    ]


class GroupReceiver:
    """Receives the messages of a group."""

    def __init__(self, channel: str) -> None:
        self._channel = channel
        self.messages: list[GroupMessage] = []

    @property
    def with_entries(self) -> list[GroupMessage]:
        """The messages with at least one entry."""
        return [message for message in self.messages if message.entries]

    async def seqs(self, last: int) -> list[int]:
        """Return every seq that arrived, once `last` has."""
        async with asyncio.timeout(ARRIVAL_TIMEOUT_SECONDS):
            while not any(entry[1] == last for message in self.messages for entry in message.entries):
                envelope = await get_channel_layer().receive(self._channel)
                self.messages.append(unseal(envelope, bus_key=BUS_KEY))
        return [entry[1] for message in self.messages for entry in message.entries]


@pytest.fixture
async def group(valkey: Valkey) -> AsyncIterator[GroupReceiver]:
    layer = get_channel_layer()
    channel = await layer.new_channel()
    await layer.group_add(group_name(ROOM, epoch=EPOCH), channel)
    # Redis processes calls in order: once this message arrives, the subscription is in effect.
    await layer.group_add("ready", channel)
    while layer.channels[channel].empty():
        await layer.group_send("ready", seal(GroupMessage(ROOM, []), bus_key=BUS_KEY))
        await asyncio.sleep(0.005)
    yield GroupReceiver(channel)
    await layer.flush()


def new_publisher(**given: Any) -> Publisher:
    return Publisher(**{"max_unpublished_events": 10_000, "timeout_seconds": ARRIVAL_TIMEOUT_SECONDS, **given})


async def test_queued_events_are_sent_together_per_room_and_in_order(group: GroupReceiver) -> None:
    one = new_publisher()
    with one._lock:
        # Nothing is sent before all events are queued.
        loop = one._running_loop()
        one._sending = True
    one.publish(deliveries(1, 3))
    one.publish(deliveries(4, 2, room="workflow:b"))
    one.publish(deliveries(6, 2))
    asyncio.run_coroutine_threadsafe(one._send_queued(), loop)
    assert await group.seqs(7) == [1, 2, 3, 6, 7]
    (message,) = group.with_entries
    assert message.room == ROOM
    assert [tuple(entry[:2]) for entry in message.entries] == [(0, 1), (1, 2), (2, 3), (5, 6), (6, 7)]


async def test_messages_of_one_room_are_bounded_in_size(group: GroupReceiver) -> None:
    one = new_publisher()
    large = '"' + "x" * 60_000 + '"'
    one.publish(deliveries(1, 20, data=large))
    assert await group.seqs(20) == list(range(1, 21))
    sizes = [sum(len(entry[3]) for entry in message.entries) for message in group.with_entries]
    assert max(sizes) <= publisher_module._MAX_MESSAGE_BYTES
    assert len(sizes) < 20


async def test_hanging_channel_layer_never_delays_publish_and_drops_the_oldest_events(
    group: GroupReceiver, valkey: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    one = new_publisher(max_unpublished_events=100, timeout_seconds=SEND_TIMEOUT_SECONDS)
    one.publish(deliveries(1, 1))
    await group.seqs(1)
    # The message arrived. Wait until the publisher has finished as well, before the layer hangs.
    assert one.flush(timeout_seconds=ARRIVAL_TIMEOUT_SECONDS)
    with frozen(valkey):
        # This send hangs: from now on, published events stay in the queue.
        one.publish(deliveries(2, 2))
        wait_until(lambda: not one._queue, timeout_seconds=ARRIVAL_TIMEOUT_SECONDS)
        for first in range(4, 2002, 2):
            one.publish(deliveries(first, 2))
        dropped = one._dropped
        assert (len(one._queue), one._queue[-1].event.seq) == (100, 2001)
        # All calls returned before the first send timed out, so none has waited for it.
        assert not one.flush(timeout_seconds=0)
        assert "Channel layer unavailable" not in str(caplog.messages)
        # Each send times out, then the next one starts.
        assert await asyncio.to_thread(one.flush, timeout_seconds=ARRIVAL_TIMEOUT_SECONDS)
    one.publish(deliveries(3000, 1))
    arrived = await group.seqs(3000)
    assert arrived == sorted(arrived)
    assert one.flush(timeout_seconds=ARRIVAL_TIMEOUT_SECONDS)
    assert caplog.messages == [
        "Publish queue is full; dropping the oldest events (subscribers catch up from the log)",
        # This timeout comes first: Redis's own client would wait a second longer, with another error.
        "Channel layer unavailable (TimeoutError()); subscribers catch up from the event log",
        f"Channel layer available again; {dropped} queued events were dropped",
    ]


async def test_full_publish_queue_of_an_available_layer_is_logged_once_with_its_end(
    group: GroupReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    one = new_publisher(max_unpublished_events=100)
    with one._lock:
        # Nothing is sent before all events are queued.
        loop = one._running_loop()
        one._sending = True
    one.publish(deliveries(1, 120))
    one.publish(deliveries(121, 30))
    asyncio.run_coroutine_threadsafe(one._send_queued(), loop)
    assert await group.seqs(150) == list(range(51, 151))
    assert one.flush(timeout_seconds=ARRIVAL_TIMEOUT_SECONDS)
    assert caplog.messages == [
        "Publish queue is full; dropping the oldest events (subscribers catch up from the log)",
        "Publish queue has room again; 50 queued events were dropped",
    ]


@pytest.mark.parametrize("text", ["x" * 998, "é" * 499])
async def test_publish_queue_is_bounded_in_bytes(text: str, valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher_module, "_MAX_UNPUBLISHED_BYTES", 50_000)
    one = new_publisher()
    with frozen(valkey):
        one.publish(deliveries(1, 1, room="workflow:b"))
        wait_until(lambda: not one._queue, timeout_seconds=ARRIVAL_TIMEOUT_SECONDS)
        one.publish(deliveries(2, 100, room="workflow:b", data=f'"{text}"'))
        assert [delivery.event.seq for delivery in one._queue] == list(range(52, 102))
    assert one.flush(timeout_seconds=ARRIVAL_TIMEOUT_SECONDS)


async def test_publisher_recovers_after_the_channel_layer_was_killed(group: GroupReceiver, valkey: Valkey) -> None:
    one = new_publisher()
    one.publish(deliveries(1, 1))
    await group.seqs(1)
    valkey.kill()
    try:
        one.publish(deliveries(2, 3))
        assert one.flush(timeout_seconds=ARRIVAL_TIMEOUT_SECONDS)
    finally:
        valkey.start()
    async with asyncio.timeout(ARRIVAL_TIMEOUT_SECONDS):
        for seq in range(5, 500):
            one.publish(deliveries(seq, 1))
            if not get_channel_layer().channels[group._channel].empty():
                break
            await asyncio.sleep(0.05)
    assert (await group.seqs(seq))[-1] == seq


async def test_event_that_cannot_be_encoded_does_not_stop_publishing(
    group: GroupReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    one = new_publisher()
    broken = Delivery(EPOCH, BUS_KEY, ROOM, 0, EventRecord(1, "id", "workflow.started", None, "{}"))  # type: ignore[arg-type]
    one.publish([broken])
    assert one.flush(timeout_seconds=ARRIVAL_TIMEOUT_SECONDS)
    one.publish(deliveries(2, 1))
    assert await group.seqs(2) == [2]
    assert "Publishing failed; subscribers will catch up from the event log" in caplog.messages


async def test_concurrent_threads_lose_no_event(group: GroupReceiver) -> None:
    one = new_publisher()
    together = threading.Barrier(8)

    def publish(first: int) -> None:
        together.wait()
        for seq in range(first, first + 50):
            one.publish(deliveries(seq, 1))

    threads = [threading.Thread(target=publish, args=(1 + 50 * number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert one.flush(timeout_seconds=ARRIVAL_TIMEOUT_SECONDS)
    one.publish(deliveries(401, 1))
    arrived = await group.seqs(401)
    assert sorted(arrived) == list(range(1, 402))
    for number in range(8):
        of_thread = [seq for seq in arrived if 50 * number < seq <= 50 * number + 50]
        assert of_thread == sorted(of_thread)


CHILD = """
import os, sys, time
import django
django.setup()
from realtime.broadcast.publisher import publisher
from realtime.eventlog.append import Delivery
from django.utils import timezone
from realtime.protocol.messages import EventRecord

def publish(seq):
    record = EventRecord(seq, "id", "workflow.started", timezone.now(), "{{}}")
    publisher().publish([Delivery({epoch!r}, {bus_key!r}, {room!r}, seq - 1, record)])

{code}
"""


def run_python(code: str, *, publish_timeout_seconds: float) -> subprocess.CompletedProcess[str]:
    """Run code that may call `publish(seq)` in a new process, with this process's settings."""
    program = CHILD.format(epoch=EPOCH, bus_key=BUS_KEY, room=ROOM, code=code)
    timeout = {"MAHAVISHNU_PUBLISH_TIMEOUT_SECONDS": str(publish_timeout_seconds)}
    environment = {**os.environ, **timeout, "PYTHONWARNINGS": "ignore"}
    return subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=True
    )


async def test_process_sends_its_queue_before_it_exits(group: GroupReceiver) -> None:
    await asyncio.to_thread(run_python, "for seq in range(1, 101): publish(seq)", publish_timeout_seconds=30)
    assert await group.seqs(100) == list(range(1, 101))


FORK = """
publish(1)
publisher().flush(timeout_seconds=30)
with publisher()._lock:  # As if another thread of the parent were publishing.
    child = os.fork()
    if child == 0:
        publish(2)
        assert publisher().flush(timeout_seconds=30)
        sys.exit()  # Runs the exit handlers in the child too.
_, status = os.waitpid(child, 0)
assert status == 0, status
publish(3)
"""


async def test_parent_and_forked_child_both_publish(group: GroupReceiver) -> None:
    await asyncio.to_thread(run_python, FORK, publish_timeout_seconds=30)
    assert await group.seqs(3) == [1, 2, 3]


async def test_process_exits_although_the_channel_layer_hangs(valkey: Valkey) -> None:
    with frozen(valkey):
        await asyncio.to_thread(run_python, "for seq in range(1, 6): publish(seq)", publish_timeout_seconds=1)


def test_process_has_one_publisher(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    # An earlier test may have made it: then there would be no race.
    monkeypatch.setattr(publisher_module, "_publisher", None)
    publishers: list[Publisher] = []
    together = threading.Barrier(4)

    def get_publisher() -> None:
        together.wait()
        publishers.append(publisher())

    threads = [threading.Thread(target=get_publisher) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, publishers))) == 1
