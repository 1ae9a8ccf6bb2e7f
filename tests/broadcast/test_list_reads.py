"""The reads of lists in the queue of the replays."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from realtime.limits import Limits
from realtime.queries.replay_reads import ReplayReads
from realtime.queries.replay_turns import MAX_REST_SECONDS

times: list[float] = []
reads: list[str] = []


@dataclass(frozen=True)
class SlowQuery:
    page: int
    is_first: bool = False

    def read(self, _: Limits) -> None:
        times.append(time.monotonic())
        time.sleep(MAX_REST_SECONDS)
        times.append(time.monotonic())


@dataclass(frozen=True)
class CountedQuery:
    name: str
    is_first: bool = True

    def read(self, _: Limits) -> str:
        reads.append(self.name)
        return self.name


async def test_long_lists_leave_half_of_the_time_to_others() -> None:
    queue = ReplayReads(Limits(max_concurrent_replays=1))
    times.clear()
    await asyncio.gather(*(queue.page(SlowQuery(page)) for page in (1, 2)))
    assert times[2] - times[1] >= MAX_REST_SECONDS


async def test_equal_queries_share_a_read() -> None:
    queue = ReplayReads(Limits(max_concurrent_replays=1))
    reads.clear()
    pages = await asyncio.gather(*(queue.page(CountedQuery(name)) for name in ("a", "b", "a")))
    assert (pages, reads) == (["a", "b", "a"], ["a", "b"])
