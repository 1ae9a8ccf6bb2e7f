"""Every transition, allowed or not, through the services."""

from __future__ import annotations

import pickle
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
waiting    no      no       no         no      no
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


def pairs(table: str, answer: str) -> list[tuple[str, str]]:
    """Return the (current, requested) pairs of a table that have this answer."""
    header, *rows = (row.split() for row in table.strip().splitlines())
    return [
        (current, requested)
        for current, *answers_of_row in rows
        for requested, found in zip(header, answers_of_row, strict=True)
        if found == answer
    ]


def allowed(table: str, current: str) -> list[str]:
    return sorted(requested for status, requested in pairs(table, "yes") if status == current)


def test_tables_have_a_row_for_every_status() -> None:
    for table, statuses in (
        (POOL, PoolStatus),
        (WORKER, WorkerStatus),
        (WORKFLOW, WorkflowStatus),
        (STAGE, StageStatus),
    ):
        rows = [row.split()[0] for row in table.strip().splitlines()[1:]]
        assert sorted(rows) == sorted(statuses.values)


@pytest.mark.parametrize(("current", "requested"), pairs(POOL, "yes"))
def test_pool_transition_is_allowed(current: str, requested: str) -> None:
    pool_with(current)
    assert CHANGE_POOL[requested]().status == requested
    assert Pool.objects.get().status == requested


@pytest.mark.parametrize(("current", "requested"), pairs(POOL, "no"))
def test_pool_transition_is_rejected(current: str, requested: str, recorded: list[RecordedSignal]) -> None:
    pool_with(current)
    recorded.clear()
    with pytest.raises(services.IllegalTransition) as error:
        CHANGE_POOL[requested]()
    assert_transition_error(error.value, "pool", "pool", current, requested, allowed(POOL, current))
    assert Pool.objects.get().status == current
    assert recorded == []


@pytest.mark.parametrize(("current", "requested"), pairs(WORKER, "yes"))
def test_worker_transition_is_allowed(current: str, requested: str) -> None:
    worker_with(current)
    assert services.change_worker_status(worker_id="worker", status=requested).status == requested
    assert Worker.objects.get().status == requested


@pytest.mark.parametrize(("current", "requested"), pairs(WORKER, "no"))
def test_worker_transition_is_rejected(current: str, requested: str, recorded: list[RecordedSignal]) -> None:
    worker_with(current)
    recorded.clear()
    with pytest.raises(services.IllegalTransition) as error:
        services.change_worker_status(worker_id="worker", status=requested)
    assert_transition_error(error.value, "worker", "worker", current, requested, allowed(WORKER, current))
    assert Worker.objects.get().status == current
    assert recorded == []


@pytest.mark.parametrize(("current", "requested"), pairs(WORKFLOW, "yes"))
def test_workflow_transition_is_allowed(current: str, requested: str) -> None:
    workflow_with(current)
    assert CHANGE_WORKFLOW[requested]().status == requested
    assert Workflow.objects.get().status == requested


@pytest.mark.parametrize(("current", "requested"), pairs(WORKFLOW, "no"))
def test_workflow_transition_is_rejected(current: str, requested: str, recorded: list[RecordedSignal]) -> None:
    before = workflow_with(current)
    recorded.clear()
    with pytest.raises(services.IllegalTransition) as error:
        CHANGE_WORKFLOW[requested]()
    assert_transition_error(error.value, "workflow", "wf", current, requested, allowed(WORKFLOW, current))
    after = Workflow.objects.get()
    assert (after.status, after.result, after.error) == (current, before.result, before.error)
    assert recorded == []


@pytest.mark.parametrize(("current", "requested"), pairs(STAGE, "yes"))
def test_stage_transition_is_allowed(current: str, requested: str) -> None:
    stage_with(current)
    assert CHANGE_STAGE[requested]().status == requested
    assert Stage.objects.get(name="one").status == requested


@pytest.mark.parametrize(("current", "requested"), pairs(STAGE, "no"))
def test_stage_transition_is_rejected(current: str, requested: str, recorded: list[RecordedSignal]) -> None:
    before = stage_with(current)
    recorded.clear()
    with pytest.raises(services.IllegalTransition) as error:
        CHANGE_STAGE[requested]()
    assert_transition_error(error.value, "stage", "wf/one", current, requested, allowed(STAGE, current))
    after = Stage.objects.get(name="one")
    assert (after.status, after.result, after.error) == (current, before.result, before.error)
    assert recorded == []


@pytest.mark.parametrize("change", CHANGE_STAGE.values(), ids=CHANGE_STAGE)
def test_stage_of_a_pending_workflow_cannot_change(change: Callable[[], Stage], recorded: list[RecordedSignal]) -> None:
    workflow_with(WorkflowStatus.PENDING)
    recorded.clear()
    with pytest.raises(services.WorkflowNotRunning) as error:
        change()
    assert str(error.value) == "Workflow wf has status pending; stages can only change while it is running."
    assert Stage.objects.get(name="one").status == StageStatus.PENDING
    assert recorded == []


def test_transition_error_names_both_statuses_and_the_allowed_ones() -> None:
    workflow_with(WorkflowStatus.PENDING)
    with pytest.raises(services.IllegalTransition) as error:
        services.complete_workflow(workflow_id="wf", result={})
    assert str(error.value) == (
        "Workflow wf has status pending and cannot become completed; allowed: cancelled, failed, running, timeout."
    )


def test_transition_error_after_a_final_status_allows_no_other_status() -> None:
    pool_with(PoolStatus.CLOSED)
    with pytest.raises(services.IllegalTransition) as error:
        services.drain_pool(pool_id="pool")
    assert str(error.value) == "Pool pool has status closed and cannot become draining; allowed: no other status."


def test_transition_error_survives_pickling() -> None:
    error = services.IllegalTransition("pool", "local", PoolStatus.CLOSED, PoolStatus.DRAINING, "a rule")
    restored = pickle.loads(pickle.dumps(error))
    assert (restored.args, restored.rule, str(restored)) == (error.args, "a rule", str(error))
    assert_transition_error(restored, "pool", "local", "closed", "draining", [])


def assert_transition_error(
    error: services.IllegalTransition, kind: str, id: str, current: str, requested: str, allowed: list[str]
) -> None:
    found = (error.kind, error.id, error.current, error.requested, error.allowed)
    assert found == (kind, id, current, requested, allowed)
