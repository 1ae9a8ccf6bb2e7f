"""Every transition there is, legal or not, asked of the services."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestration import services
from orchestration.models import Pool, PoolStatus, Stage, StageStatus, Worker, WorkerStatus, Workflow, WorkflowStatus
from tests.services.builders import pool_with, stage_with, worker_with, workflow_with
from tests.services.signal_recorder import RecordedSignal

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True)]

POOL = """
           active  draining  closed
active     no      yes       yes
draining   yes     no        yes
closed     no      no        no
"""

WORKER = """
           idle  busy  error  offline
idle       no    yes   yes    yes
busy       yes   no    yes    yes
error      yes   yes   no     yes
offline    yes   no    yes    no
"""

WORKFLOW = """
           running  completed  failed  cancelled  timeout
pending    yes      no         yes     yes        yes
running    no       yes        yes     yes        yes
completed  no       no         no      no         no
failed     no       no         no      no         no
cancelled  no       no         no      no         no
timeout    no       no         no      no         no
"""

STAGE = """
           queued  running  completed  failed  skipped
pending    yes     yes      yes        yes     yes
queued     no      yes      yes        yes     yes
running    no      no       yes        yes     no
completed  no      no       no         no      no
failed     no      no       no         no      no
skipped    no      no       no         no      no
cancelled  no      no       no         no      no
"""

CHANGE_POOL: dict[str, Callable[[], Pool]] = {
    "active": lambda: services.reopen_pool(pool_id="pool"),
    "draining": lambda: services.drain_pool(pool_id="pool"),
    "closed": lambda: services.close_pool(pool_id="pool"),
}
CHANGE_WORKFLOW: dict[str, Callable[[], Workflow]] = {
    "running": lambda: services.start_workflow(workflow_id="wf"),
    "completed": lambda: services.complete_workflow(workflow_id="wf", result={}),
    "failed": lambda: services.fail_workflow(workflow_id="wf", error="It broke"),
    "cancelled": lambda: services.cancel_workflow(workflow_id="wf"),
    "timeout": lambda: services.time_out_workflow(workflow_id="wf"),
}
CHANGE_STAGE: dict[str, Callable[[], Stage]] = {
    "queued": lambda: services.queue_stage(workflow_id="wf", stage_name="one"),
    "running": lambda: services.start_stage(workflow_id="wf", stage_name="one"),
    "completed": lambda: services.complete_stage(workflow_id="wf", stage_name="one", result={}),
    "failed": lambda: services.fail_stage(workflow_id="wf", stage_name="one", error="It broke"),
    "skipped": lambda: services.skip_stage(workflow_id="wf", stage_name="one"),
}


def cells(table: str, answer: str) -> list[tuple[str, str]]:
    """The (current, requested) pairs of a table that have this answer."""
    header, *rows = (row.split() for row in table.strip().splitlines())
    return [
        (current, requested)
        for current, *answers in rows
        for requested, found in zip(header, answers, strict=True)
        if found == answer
    ]


def allowed(table: str, current: str) -> list[str]:
    return sorted(requested for status, requested in cells(table, "yes") if status == current)


def test_the_tables_name_every_status_that_is_reached_or_left() -> None:
    for table, statuses in (
        (POOL, PoolStatus),
        (WORKER, WorkerStatus),
        (WORKFLOW, WorkflowStatus),
        (STAGE, StageStatus),
    ):
        rows = [row.split()[0] for row in table.strip().splitlines()[1:]]
        assert sorted(rows) == sorted(statuses.values)


@pytest.mark.parametrize(("current", "requested"), cells(POOL, "yes"))
def test_a_pool_may_become(current: str, requested: str) -> None:
    pool_with(current)
    assert CHANGE_POOL[requested]().status == requested
    assert Pool.objects.get().status == requested


@pytest.mark.parametrize(("current", "requested"), cells(POOL, "no"))
def test_a_pool_may_not_become(current: str, requested: str, recorded: list[RecordedSignal]) -> None:
    pool_with(current)
    recorded.clear()
    with pytest.raises(services.IllegalTransition) as refused:
        CHANGE_POOL[requested]()
    assert_told(refused.value, "pool", "pool", current, requested, allowed(POOL, current))
    assert Pool.objects.get().status == current
    assert recorded == []


@pytest.mark.parametrize(("current", "requested"), cells(WORKER, "yes"))
def test_a_worker_may_become(current: str, requested: str) -> None:
    worker_with(current)
    assert services.change_worker_status(worker_id="worker", status=requested).status == requested
    assert Worker.objects.get().status == requested


@pytest.mark.parametrize(("current", "requested"), cells(WORKER, "no"))
def test_a_worker_may_not_become(current: str, requested: str, recorded: list[RecordedSignal]) -> None:
    worker_with(current)
    recorded.clear()
    with pytest.raises(services.IllegalTransition) as refused:
        services.change_worker_status(worker_id="worker", status=requested)
    assert_told(refused.value, "worker", "worker", current, requested, allowed(WORKER, current))
    assert Worker.objects.get().status == current
    assert recorded == []


@pytest.mark.parametrize(("current", "requested"), cells(WORKFLOW, "yes"))
def test_a_workflow_may_become(current: str, requested: str) -> None:
    workflow_with(current)
    assert CHANGE_WORKFLOW[requested]().status == requested
    assert Workflow.objects.get().status == requested


@pytest.mark.parametrize(("current", "requested"), cells(WORKFLOW, "no"))
def test_a_workflow_may_not_become(current: str, requested: str, recorded: list[RecordedSignal]) -> None:
    before = workflow_with(current)
    recorded.clear()
    with pytest.raises(services.IllegalTransition) as refused:
        CHANGE_WORKFLOW[requested]()
    assert_told(refused.value, "workflow", "wf", current, requested, allowed(WORKFLOW, current))
    after = Workflow.objects.get()
    assert (after.status, after.result, after.error) == (current, before.result, before.error)
    assert recorded == []


@pytest.mark.parametrize(("current", "requested"), cells(STAGE, "yes"))
def test_a_stage_may_become(current: str, requested: str) -> None:
    stage_with(current)
    assert CHANGE_STAGE[requested]().status == requested
    assert Stage.objects.get(name="one").status == requested


@pytest.mark.parametrize(("current", "requested"), cells(STAGE, "no"))
def test_a_stage_may_not_become(current: str, requested: str, recorded: list[RecordedSignal]) -> None:
    before = stage_with(current)
    recorded.clear()
    with pytest.raises(services.IllegalTransition) as refused:
        CHANGE_STAGE[requested]()
    assert_told(refused.value, "stage", "wf/one", current, requested, allowed(STAGE, current))
    after = Stage.objects.get(name="one")
    assert (after.status, after.result, after.error) == (current, before.result, before.error)
    assert recorded == []


@pytest.mark.parametrize("change", CHANGE_STAGE.values(), ids=CHANGE_STAGE)
def test_a_stage_of_a_workflow_not_yet_started_may_not_change(
    change: Callable[[], Stage], recorded: list[RecordedSignal]
) -> None:
    workflow_with(WorkflowStatus.PENDING)
    recorded.clear()
    with pytest.raises(services.WorkflowNotRunning) as refused:
        change()
    assert str(refused.value) == "Workflow wf is pending; stages can only change while it is running."
    assert Stage.objects.get(name="one").status == StageStatus.PENDING
    assert recorded == []


def test_a_refusal_names_both_states_and_what_is_allowed() -> None:
    workflow_with(WorkflowStatus.PENDING)
    with pytest.raises(services.IllegalTransition) as refused:
        services.complete_workflow(workflow_id="wf", result={})
    assert str(refused.value) == (
        "Workflow wf is pending and cannot become completed; allowed: cancelled, failed, running, timeout."
    )


def test_a_refusal_at_the_end_of_the_road_says_that_nothing_is_allowed() -> None:
    pool_with(PoolStatus.CLOSED)
    with pytest.raises(services.IllegalTransition) as refused:
        services.drain_pool(pool_id="pool")
    assert str(refused.value) == "Pool pool is closed and cannot become draining; allowed: no other status."


def assert_told(
    refusal: services.IllegalTransition, kind: str, id: str, current: str, requested: str, allowed: list[str]
) -> None:
    found = (refusal.kind, refusal.id, refusal.current, refusal.requested, refusal.allowed)
    assert found == (kind, id, current, requested, allowed)
