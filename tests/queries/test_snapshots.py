"""What the snapshot of a large resource reads: no more than can be left of it in an answer."""

from __future__ import annotations

import gc
import json
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.utils import timezone

from orchestration.bounds import KIB, MIB
from orchestration.models import Stage, Worker, Workflow
from orchestration.services import create_pool, create_workflow
from realtime.limits import Limits
from realtime.queries.pages import EXAMINED_ROW_BYTES
from realtime.queries.resume import ResumePoint, find_resume_point

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True)]

LIMITS = Limits()


def snapshot(channel: str) -> ResumePoint:
    return find_resume_point(channel, since=None, epoch=None, with_snapshot=True, limits=LIMITS)


@contextmanager
def memory_below(max_bytes: int) -> Iterator[None]:
    """Check the memory that the block needs at most."""
    gc.collect()
    tracemalloc.start()
    try:
        yield
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < max_bytes


def make_workflow(workflow_id: str, *, stages: int, **fields: Any) -> None:
    names = [f"stage {number}" for number in range(stages)]
    create_workflow(workflow_id=workflow_id, adapter="python", prompt="", stages=names)
    Workflow.objects.filter(pk=workflow_id).update(**fields)


@pytest.mark.parametrize("channel", ["workflow:large", "global"])
def test_snapshot_reads_no_plan_large_parameter_or_result_of_a_stage(channel: str) -> None:
    make_workflow("large", stages=20, params={"x": "x" * 4 * MIB})
    Stage.objects.update(result={"x": "x" * MIB})
    snapshot(channel)  # Compile the queries.
    with memory_below(MIB):
        found = snapshot(channel)
    assert found.snapshot is not None
    assert ('"params":{}' in found.snapshot, "truncated" in found.snapshot) == (channel != "global",) * 2
    # The budget is charged for the counts too.
    counted = 20 if channel == "workflow:large" else 0
    assert found.cost_bytes == len(found.snapshot) + counted * EXAMINED_ROW_BYTES


def test_snapshot_of_a_wide_run_counts_the_stages_that_it_leaves_out() -> None:
    make_workflow("wide", stages=2002)
    Stage.objects.filter(position__gte=2000).update(status="queued", queued_at=timezone.now())
    found = snapshot("workflow:wide")
    assert found.snapshot is not None
    state = json.loads(found.snapshot)
    assert (state["truncated"], state["total_stages"]) == (True, 2002)
    assert state["stage_counts"] == {"pending": 2000, "queued": 2}
    listed = [stage["stage_name"] for stage in state["stages"]]
    assert listed == [f"stage {number}" for number in range(len(listed))]
    assert 100 < len(listed) < 2002


def test_snapshot_reads_the_part_of_large_texts_that_may_be_left() -> None:
    make_workflow("large", stages=30, prompt="x" * 8 * MIB, error="x" * 8 * MIB)
    Stage.objects.update(error="x" * MIB)
    snapshot("workflow:large")
    with memory_below(4 * MIB):
        found = snapshot("workflow:large")
    assert found.snapshot is not None
    assert '"truncated":true' in found.snapshot
    # The budget is charged for what was read.
    assert 2 * 64 * KIB + 30 * 4096 < found.cost_bytes < 2 * 64 * KIB + 30 * 4096 + 30 * 512


def test_snapshot_of_a_pool_reads_the_workers_that_may_fit() -> None:
    create_pool(pool_id="p")
    Worker.objects.bulk_create(Worker(id=f"{number:05}", pool_id="p") for number in range(20_000))
    found = snapshot("pool:p")
    assert found.snapshot is not None
    assert '"truncated":true' in found.snapshot
    assert found.cost_bytes < 128 * KIB


def test_long_error_of_a_stage_is_cut_as_in_a_large_snapshot() -> None:
    make_workflow("w", stages=1)
    Stage.objects.update(error="x" * 4096)
    found = snapshot("workflow:w").snapshot
    assert found is not None
    assert "x" * 4096 in found
    assert "truncated" not in found
    Stage.objects.update(error="x" * 4097)
    found = snapshot("workflow:w").snapshot
    assert found is not None
    assert "x" * 4095 + "…" in found
    assert '"truncated":true' in found
