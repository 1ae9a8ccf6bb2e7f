"""The push to the bus: bounded, in order, never in the way of whoever commits, and no loss when it fails."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from channels.layers import get_channel_layer

from realtime.broadcast import publisher as publisher_module
from realtime.broadcast.message import GroupMessage, group_name
from realtime.broadcast.publisher import Publisher, publisher
from realtime.eventlog.append import Delivery
from realtime.protocol.messages import EventRecord, utc_now
from tests.broadcast.frozen_bus import frozen
from tests.harness.valkey import Valkey
from tests.harness.waiting import wait_until

EPOCH = "0" * 32
ROOM = "workflow:a"

ARRIVAL_TIMEOUT_SECONDS = 30.0

PATIENCE_SECONDS = 4.0
"""How long a push may take before it is given up, where a test waits for that."""


def deliveries(first: int, count: int, *, room: str = ROOM, data: str = "{}") -> list[Delivery]:
    return [
        Delivery(EPOCH, room, seq - 1, EventRecord(seq, f"id-{seq}", "workflow.started", utc_now(), data))
        for seq in range(first, first + count)
    ]


class Bus:
    """The other end: what arrives in a group."""

    def __init__(self, channel: str) -> None:
        self._channel = channel
        self.messages: list[GroupMessage] = []

    @property
    def carrying(self) -> list[GroupMessage]:
        """What arrived and has anything in it."""
        return [message for message in self.messages if message["entries"]]

    async def seqs(self, last: int) -> list[int]:
        """Every seq that arrived, once the one called `last` has."""
        async with asyncio.timeout(ARRIVAL_TIMEOUT_SECONDS):
            while not any(entry[1] == last for message in self.messages for entry in message["entries"]):
                self.messages.append(await get_channel_layer().receive(self._channel))
        return [entry[1] for message in self.messages for entry in message["entries"]]


@pytest.fixture
async def bus(valkey: Valkey) -> AsyncIterator[Bus]:
    layer = get_channel_layer()
    channel = await layer.new_channel()
    await layer.group_add(group_name(ROOM, epoch=EPOCH), channel)
    # Redis answers in turn: when it has answered this, it has carried out the subscription.
    await layer.group_add("ready", channel)
    while layer.channels[channel].empty():
        await layer.group_send("ready", {"entries": []})
        await asyncio.sleep(0.005)
    yield Bus(channel)
    await layer.flush()


def new_publisher(**given: Any) -> Publisher:
    return Publisher(**{"max_unpublished_events": 10_000, "timeout_seconds": ARRIVAL_TIMEOUT_SECONDS, **given})


async def test_what_waits_leaves_together_room_by_room_and_in_order(bus: Bus) -> None:
    one = new_publisher()
    with one._lock:
        # Nobody takes anything before all is there.
        loop = one._running_loop()
        one._sending = True
    one.publish(deliveries(1, 3))
    one.publish(deliveries(4, 2, room="workflow:b"))
    one.publish(deliveries(6, 2))
    asyncio.run_coroutine_threadsafe(one._send_queued(), loop)
    assert await bus.seqs(7) == [1, 2, 3, 6, 7]
    (message,) = bus.carrying
    assert (message["type"], message["room"]) == ("relay.deliver", ROOM)
    assert [tuple(entry[:2]) for entry in message["entries"]] == [(0, 1), (1, 2), (2, 3), (5, 6), (6, 7)]


async def test_much_of_one_room_is_pushed_in_parts_of_a_bounded_size(bus: Bus) -> None:
    one = new_publisher()
    large = '"' + "x" * 60_000 + '"'
    one.publish(deliveries(1, 20, data=large))
    assert await bus.seqs(20) == list(range(1, 21))
    sizes = [sum(len(entry[3]) for entry in message["entries"]) for message in bus.carrying]
    assert max(sizes) <= publisher_module._MAX_PUSH_BYTES
    assert len(sizes) < 20


async def test_a_hung_bus_never_delays_whoever_commits_and_the_newest_pushes_follow(
    bus: Bus, valkey: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    one = new_publisher(max_unpublished_events=100, timeout_seconds=PATIENCE_SECONDS)
    one.publish(deliveries(1, 1))
    await bus.seqs(1)
    # The bus has it; and now the publisher knows, before the bus hangs.
    assert one.flush(timeout_seconds=ARRIVAL_TIMEOUT_SECONDS)
    with frozen(valkey):
        durations = []
        for first in range(2, 2002, 2):
            began = time.perf_counter()
            one.publish(deliveries(first, 2))
            durations.append(time.perf_counter() - began)
        one_left_out = one._left_out
        assert (len(one._queue), one._queue[-1].event.seq) == (100, 2001)
        # All of them have returned before the first push was given up, and so none has waited for it.
        assert not one.flush(timeout_seconds=0)
        assert "The bus does not answer" not in str(caplog.messages)
        # Then each push is given up, for those that follow.
        assert await asyncio.to_thread(one.flush, timeout_seconds=ARRIVAL_TIMEOUT_SECONDS)
    durations.sort()
    assert durations[len(durations) // 2] < 0.0005
    one.publish(deliveries(3000, 1))
    arrived = await bus.seqs(3000)
    assert arrived == sorted(arrived)
    assert one.flush(timeout_seconds=ARRIVAL_TIMEOUT_SECONDS)
    assert caplog.messages == [
        "The bus is too slow: the oldest pushes are left to the log",
        # It is given up here: Redis's own client would have waited a second longer, and said more.
        "The bus does not answer (TimeoutError()): events reach clients from the log",
        f"The bus answers again; {one_left_out} pushes were left to the log meanwhile",
    ]


async def test_what_waits_is_bounded_in_bytes_as_well(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher_module, "_MAX_UNPUBLISHED_BYTES", 50_000)
    one = new_publisher()
    with frozen(valkey):
        one.publish(deliveries(1, 1, room="workflow:b"))
        wait_until(lambda: not one._queue, timeout_seconds=ARRIVAL_TIMEOUT_SECONDS)
        one.publish(deliveries(2, 100, room="workflow:b", data='"' + "x" * 998 + '"'))
        assert [delivery.event.seq for delivery in one._queue] == list(range(52, 102))
    assert one.flush(timeout_seconds=ARRIVAL_TIMEOUT_SECONDS)


async def test_a_publisher_goes_on_after_the_bus_was_killed(bus: Bus, valkey: Valkey) -> None:
    one = new_publisher()
    one.publish(deliveries(1, 1))
    await bus.seqs(1)
    valkey.kill()
    try:
        one.publish(deliveries(2, 3))
        assert one.flush(timeout_seconds=ARRIVAL_TIMEOUT_SECONDS)
    finally:
        valkey.start()
    async with asyncio.timeout(ARRIVAL_TIMEOUT_SECONDS):
        for seq in range(5, 500):
            one.publish(deliveries(seq, 1))
            if not get_channel_layer().channels[bus._channel].empty():
                break
            await asyncio.sleep(0.05)
    assert (await bus.seqs(seq))[-1] == seq


async def test_one_push_that_cannot_be_made_does_not_end_the_others(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    one = new_publisher()
    broken = Delivery(EPOCH, ROOM, 0, EventRecord(1, "id", "workflow.started", None, "{}"))  # type: ignore[arg-type]
    one.publish([broken])
    assert one.flush(timeout_seconds=ARRIVAL_TIMEOUT_SECONDS)
    one.publish(deliveries(2, 1))
    assert await bus.seqs(2) == [2]
    assert "Pushes could not be made: they are left to the log" in caplog.messages


async def test_many_threads_publish_at_once_and_nothing_is_lost(bus: Bus) -> None:
    one = new_publisher()
    numbers = threading.Barrier(8)

    def publish(first: int) -> None:
        numbers.wait()
        for seq in range(first, first + 50):
            one.publish(deliveries(seq, 1))

    threads = [threading.Thread(target=publish, args=(1 + 50 * number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert one.flush(timeout_seconds=ARRIVAL_TIMEOUT_SECONDS)
    one.publish(deliveries(401, 1))
    arrived = await bus.seqs(401)
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
from realtime.protocol.messages import EventRecord, utc_now

def publish(seq):
    record = EventRecord(seq, "id", "workflow.started", utc_now(), "{{}}")
    publisher().publish([Delivery({epoch!r}, {room!r}, seq - 1, record)])

{code}
"""


def run_python(code: str, *, publish_timeout_seconds: float) -> subprocess.CompletedProcess[str]:
    """Run code that may call `publish(seq)` in a process of its own, with this process's settings."""
    program = CHILD.format(epoch=EPOCH, room=ROOM, code=code)
    timeout = {"MAHAVISHNU_PUBLISH_TIMEOUT_SECONDS": str(publish_timeout_seconds)}
    environment = {**os.environ, **timeout, "PYTHONWARNINGS": "ignore"}
    return subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=True
    )


async def test_a_process_that_ends_first_sends_what_it_committed(bus: Bus) -> None:
    await asyncio.to_thread(run_python, "for seq in range(1, 101): publish(seq)", publish_timeout_seconds=30)
    assert await bus.seqs(100) == list(range(1, 101))


FORK = """
publish(1)
publisher().flush(timeout_seconds=30)
with publisher()._lock:  # As it may be, when another thread of the parent is just publishing.
    child = os.fork()
    if child == 0:
        publish(2)
        assert publisher().flush(timeout_seconds=30)
        sys.exit()  # With what runs at exit, in the child as well.
_, status = os.waitpid(child, 0)
assert status == 0, status
publish(3)
"""


async def test_a_forked_child_publishes_and_so_does_its_parent(bus: Bus) -> None:
    await asyncio.to_thread(run_python, FORK, publish_timeout_seconds=30)
    assert await bus.seqs(3) == [1, 2, 3]


async def test_a_process_whose_bus_hangs_ends_all_the_same(valkey: Valkey) -> None:
    with frozen(valkey):
        await asyncio.to_thread(run_python, "for seq in range(1, 6): publish(seq)", publish_timeout_seconds=1)


def test_a_process_has_one_publisher(valkey: Valkey) -> None:
    made: list[Publisher] = []
    together = threading.Barrier(4)

    def make(take: Callable[[Publisher], None]) -> None:
        together.wait()
        take(publisher())

    threads = [threading.Thread(target=make, args=(made.append,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, made))) == 1
