"""The reads of `list_stages` in the queue of the replays."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from realtime.eventlog.position import Position
from realtime.limits import Limits
from realtime.queries import replay_reads
from realtime.queries.replay_reads import ReplayReads
from realtime.queries.replay_turns import MAX_REST_SECONDS
from realtime.queries.stage_pages import StagePage

EMPTY = StagePage(position=Position(0, "epoch", 0, ""), stages="[]", next_after=None, stage_counts=None, cost_bytes=0)


async def test_long_lists_leave_half_of_the_time_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    times: list[float] = []

    def read_slowly(*_: Any, **__: Any) -> StagePage:
        times.append(time.monotonic())
        time.sleep(MAX_REST_SECONDS)
        times.append(time.monotonic())
        return EMPTY

    monkeypatch.setattr(replay_reads, "read_stage_page", read_slowly)
    queue = ReplayReads(Limits(max_concurrent_replays=1))
    await asyncio.gather(*(queue.stage_page("wf", statuses=(), after=after, limit=100) for after in (99, 199)))
    assert times[2] - times[1] >= MAX_REST_SECONDS


async def test_lists_of_the_same_statuses_share_a_read_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted: list[tuple[str, ...]] = []

    def read(_: str, *, statuses: tuple[str, ...], **__: Any) -> StagePage:
        wanted.append(statuses)
        return EMPTY

    monkeypatch.setattr(replay_reads, "read_stage_page", read)
    queue = ReplayReads(Limits(max_concurrent_replays=1))
    asked = (["failed", "skipped"], ["skipped", "failed"], ["failed", "skipped", "failed"])
    await asyncio.gather(*(queue.stage_page("wf", statuses=each, after=None, limit=100) for each in asked))
    assert wanted == [("failed", "skipped")]
