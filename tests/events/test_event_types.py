"""Event types register themselves, and build themselves from their signal."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar

import msgspec
import pytest
from django.dispatch import Signal

from orchestration import signals
from orchestration.models import POOL_COUNTERS, FailedAttempt, Pool, Stage, Workflow
from realtime.events.types import EVENT_TYPES, EventData
from realtime.events.types.pool import PoolEvent, PoolMetrics, PoolStatusChanged
from realtime.events.types.stage import WorkflowStageRetrying
from realtime.events.types.stage_report import WorkflowStageProgress
from realtime.events.types.workflow import WorkflowCancelled
from tests.docs.markdown import blocks, page
from tests.events.event_cases import COVERED_EVENTS

NOON = datetime(2026, 2, 10, 12, 0, 0, tzinfo=UTC)


def test_every_event_type_has_a_case_or_a_documented_cause() -> None:
    # `tests/docs` runs the causes and compares the events with the examples.
    documented = {block.section for block in blocks(page("docs/protocol.md"), role="event") if block.cause}
    # `tests/docs/example_run.py` causes these, and `tests/testing/test_waits.py` compares them.
    waits = {"workflow.waiting", "workflow.wait_answered", "workflow.wait_expired"}
    assert set(EVENT_TYPES) == COVERED_EVENTS | documented | waits


def test_every_signal_has_exactly_one_event_type() -> None:
    sent = [signal for signal in vars(signals).values() if isinstance(signal, Signal)]
    assert sorted(map(id, sent)) == sorted(id(event_type.signal) for event_type in EVENT_TYPES.values())


def test_event_type_with_a_name_registers_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    # Removed from the registry after the test.
    monkeypatch.setitem(EVENT_TYPES, "pool.resized", PoolEvent)

    class PoolResized(PoolEvent, kw_only=True):
        event: ClassVar[str] = "pool.resized"

    assert EVENT_TYPES["pool.resized"] is PoolResized
    event = PoolResized.from_signal(pool=Pool(id="p"), at=NOON, signal=None, sender=Pool)
    assert (event, event.rooms()) == (PoolResized(pool_id="p", timestamp=NOON), ("pool:p",))


def test_base_classes_of_event_types_are_not_registered() -> None:
    assert EventData not in EVENT_TYPES.values()
    assert PoolEvent not in EVENT_TYPES.values()


def test_pool_metrics_are_exactly_the_counters_of_a_pool() -> None:
    assert sorted(PoolMetrics.__struct_fields__) == sorted(POOL_COUNTERS)
    pool = Pool(id="p", **{counter: number for number, counter in enumerate(POOL_COUNTERS)})
    assert msgspec.structs.asdict(PoolMetrics.of(pool)) == {name: number for number, name in enumerate(POOL_COUNTERS)}


STAGE = Stage(workflow_id="wf", name="one", worker_id="w", progress_message="Half way", retry_at=NOON)


@pytest.mark.parametrize(
    ("event_type", "arguments", "expected"),
    [
        (WorkflowCancelled, {"workflow": Workflow(id="wf", error="Not needed")}, {"reason": "Not needed"}),
        (WorkflowStageProgress, {"stage": STAGE}, {"progress": 0.0, "message": "Half way", "stage_name": "one"}),
        (
            WorkflowStageRetrying,
            {"stage": STAGE, "failed": FailedAttempt(attempt=2, reason="failed", error="No")},
            {"attempt": 2, "reason": "failed", "error": "No", "retry_at": NOON, "stage_name": "one"},
        ),
        (PoolStatusChanged, {"pool": Pool(id="p", idle_workers=3)}, {"pool_id": "p"}),
    ],
)
def test_from_signal_copies_the_fields_of_the_resource(
    event_type: type[EventData], arguments: dict[str, Any], expected: dict[str, Any]
) -> None:
    event = event_type.from_signal(**arguments, at=NOON, sender=None, signal=None)
    assert {**expected, "timestamp": NOON}.items() <= msgspec.structs.asdict(event).items()
