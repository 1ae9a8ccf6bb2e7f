"""The detector of slow consumers, with a fake clock and the counters of a queue."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from realtime.connection.slow_consumer import SlowConsumerDetector
from realtime.limits import Limits

QUEUE_LIMIT = 80_000
BURST_LIMIT = 200_000
BURST_SECONDS = 0.5
LEAST_PROGRESS = QUEUE_LIMIT // 8
LIMITS = Limits(max_send_queue_bytes=QUEUE_LIMIT, max_burst_bytes=BURST_LIMIT, max_burst_seconds=BURST_SECONDS)

QUEUE_FULL = "80001 bytes queued, limit 80000"


class Clock:
    """The clock of the event loop, moved by the test."""

    def __init__(self, now: float) -> None:
        self.now = now

    async def advance(self, seconds: float) -> None:
        self.now += seconds
        # The loop runs a timer that has become due after what was ready before.
        await asyncio.sleep(0)
        await asyncio.sleep(0)


@dataclass
class WatchedQueue:
    """The counters of a send queue, and the reasons with which its detector reported a slow consumer."""

    queued_bytes: int = 0
    sent_bytes: int = 5_000_000
    limits: Limits = LIMITS
    reasons: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.detector = SlowConsumerDetector(self, self.limits, on_slow=self.reasons.append)

    def write(self, count: int) -> None:
        self.queued_bytes += count
        self.detector.check()

    def send(self, count: int) -> None:
        self.queued_bytes -= count
        self.sent_bytes += count


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    loop = asyncio.get_running_loop()
    clock = Clock(loop.time())
    monkeypatch.setattr(loop, "time", lambda: clock.now)
    return clock


async def test_client_that_reads_nothing_is_reported_after_the_burst_time(clock: Clock) -> None:
    queue = WatchedQueue()
    queue.write(QUEUE_LIMIT + 1)
    await clock.advance(BURST_SECONDS * 0.99)
    assert queue.reasons == []
    await clock.advance(BURST_SECONDS * 0.02)
    assert queue.reasons == [QUEUE_FULL]


async def test_burst_time_begins_when_the_queue_exceeds_its_limit(clock: Clock) -> None:
    queue = WatchedQueue()
    queue.write(QUEUE_LIMIT)
    await clock.advance(BURST_SECONDS / 2)
    queue.write(1)
    await clock.advance(BURST_SECONDS / 2)
    assert queue.reasons == [], "the burst time began when the queue reached its limit"
    await clock.advance(BURST_SECONDS / 2)
    assert queue.reasons == [QUEUE_FULL]


@pytest.mark.parametrize(("sent", "is_slow"), [(LEAST_PROGRESS - 1, True), (LEAST_PROGRESS, False)])
async def test_client_must_read_an_eighth_of_the_limit_in_each_burst_time(
    sent: int, is_slow: bool, clock: Clock
) -> None:
    queue = WatchedQueue()
    queue.write(QUEUE_LIMIT * 2)
    for _ in range(2):
        queue.send(LEAST_PROGRESS)
        await clock.advance(BURST_SECONDS)
        assert queue.reasons == []
    queue.send(sent)
    await clock.advance(BURST_SECONDS)
    assert bool(queue.reasons) == is_slow


async def test_writes_within_the_burst_time_do_not_restart_it(clock: Clock) -> None:
    queue = WatchedQueue()
    queue.write(QUEUE_LIMIT + 1)
    queue.send(LEAST_PROGRESS)
    await clock.advance(BURST_SECONDS / 2)
    queue.write(LEAST_PROGRESS)
    await clock.advance(BURST_SECONDS / 2)
    assert queue.reasons == []
    await clock.advance(BURST_SECONDS)
    assert queue.reasons == [QUEUE_FULL]


async def test_queue_read_down_to_its_limit_in_the_burst_time_is_not_slow(clock: Clock) -> None:
    queue = WatchedQueue()
    queue.write(QUEUE_LIMIT + 1)
    queue.send(1)
    await clock.advance(BURST_SECONDS)
    assert queue.reasons == []
    queue.write(1)
    await clock.advance(BURST_SECONDS)
    assert queue.reasons == [QUEUE_FULL]


async def test_slow_client_may_be_reported_again(clock: Clock) -> None:
    queue = WatchedQueue()
    queue.write(QUEUE_LIMIT + 1)
    await clock.advance(BURST_SECONDS)
    queue.write(0)
    await clock.advance(BURST_SECONDS)
    assert queue.reasons == [QUEUE_FULL] * 2


async def test_queue_above_the_burst_limit_is_reported_at_once_and_only_once(clock: Clock) -> None:
    queue = WatchedQueue()
    queue.write(BURST_LIMIT + 1)
    assert queue.reasons == ["200001 bytes queued, burst limit 200000"]
    await clock.advance(BURST_SECONDS)
    assert len(queue.reasons) == 1


async def test_queue_at_the_burst_limit_has_the_burst_time(clock: Clock) -> None:
    queue = WatchedQueue()
    queue.write(BURST_LIMIT)
    assert queue.reasons == []
    await clock.advance(BURST_SECONDS)
    assert queue.reasons == ["200000 bytes queued, limit 80000"]


async def test_queue_limit_above_the_burst_limit_raises_the_burst_limit() -> None:
    queue = WatchedQueue(limits=Limits(max_send_queue_bytes=QUEUE_LIMIT, max_burst_bytes=QUEUE_LIMIT // 2))
    queue.write(QUEUE_LIMIT)
    assert queue.reasons == []
    queue.write(1)
    assert queue.reasons == ["80001 bytes queued, burst limit 80000"]


async def test_stop_cancels_the_pending_check_and_a_later_write_starts_a_new_one(clock: Clock) -> None:
    queue = WatchedQueue()
    queue.write(QUEUE_LIMIT + 1)
    queue.detector.stop()
    queue.detector.stop()
    await clock.advance(BURST_SECONDS)
    assert queue.reasons == []
    queue.write(0)
    await clock.advance(BURST_SECONDS)
    assert queue.reasons == [QUEUE_FULL]
