"""Finished runs that are pruned, pools that are removed, and rows that cannot be deleted."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import ProtectedError, QuerySet
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from orchestration import services
from orchestration.db.clock import database_now
from orchestration.limits import EngineLimits
from orchestration.models import (
    FailedAttempt,
    Pool,
    Stage,
    StepRecord,
    Worker,
    Workflow,
)
from orchestration.plan import Plan, Retry, StagePlan
from orchestration.scheduler import Scheduler
from orchestration.services.retention import MAX_RUNS_PER_TRANSACTION, PruningSweep, RunRetention
from tests.models.counter_audit import assert_workflows_add_up, stored
from tests.services.builders import pool_with, stage_with, worker_with, workflow_with
from tests.services.signal_recorder import RecordedSignal, names_and_ids

pytestmark = [
    pytest.mark.both_databases,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("valkey"),
]

DAY = timedelta(days=1)


def finish_run(workflow_id: str, *, days_ago: float, pool_id: str = "pool", status: str = "completed") -> None:
    workflow_with(status, workflow_id=workflow_id, pool_id=pool_id)
    Workflow.objects.filter(pk=workflow_id).update(finished_at=database_now() - days_ago * DAY)


def prune(*retentions: RunRetention) -> int:
    """Prune all that the retentions do not keep, and return how many runs that were."""
    sweep = PruningSweep(*retentions)
    return sum(iter(sweep.prune_block, None))


def kept() -> list[str]:
    return sorted(Workflow.objects.values_list("pk", flat=True))


def start_engine_run(workflow_id: str = "wf") -> services.Slot:
    """Start a run of two attempts whose first has failed, and claim the second."""
    retries = Retry(max_attempts=2, backoff_seconds=0)
    plan = Plan(name="run", adapter="python", stages=(StagePlan(name="one", step=0, retries=retries),))
    services.start_run(plan, prompt="", params={}, pool_id="pool", workflow_id=workflow_id, key=workflow_id)
    slot = services.Slot(worker_id=services.join_pool(name="box", process="box", pool_id="pool"), process="box")
    stage_id = Stage.objects.get(workflow_id=workflow_id).pk
    services.claim_stage(stage_id, 1, slot=slot)
    services.fail_attempt(stage_id, 1, slot=slot, error="It broke")
    assert services.claim_stage(stage_id, 2, slot=slot) is not None
    return slot


@pytest.mark.parametrize(
    ("retention", "expected"),
    [
        (RunRetention(max_age=2 * DAY), ["new", "newest", "running"]),
        (RunRetention(max_runs=1), ["newest", "running"]),
        (RunRetention(max_age=2 * DAY, max_runs=1), ["new", "newest", "running"]),
        (RunRetention(max_age=2 * DAY, max_runs=3), ["new", "newest", "old", "running"]),
        (RunRetention(max_age=2 * DAY, max_runs=4), ["new", "newest", "old", "oldest", "running"]),
        (RunRetention(max_runs=0, statuses=["failed"]), ["new", "newest", "oldest", "running"]),
        (RunRetention(max_runs=1, statuses=["failed"]), ["new", "newest", "old", "oldest", "running"]),
        (RunRetention(max_runs=0, pool_id="other"), ["new", "newest", "old", "running"]),
        (RunRetention(), ["new", "newest", "old", "oldest", "running"]),
        (RunRetention(max_runs=100), ["new", "newest", "old", "oldest", "running"]),
    ],
)
def test_prune_deletes_the_oldest_finished_runs(retention: RunRetention, expected: list[str]) -> None:
    finish_run("oldest", days_ago=9, pool_id="other")
    finish_run("old", days_ago=5, status="failed")
    finish_run("new", days_ago=1)
    finish_run("newest", days_ago=0)
    workflow_with(workflow_id="running")
    before = [stored(pool_id) for pool_id in ("pool", "other")]
    prune(retention)
    assert kept() == sorted(expected)
    assert Stage.objects.count() == 3 * len(expected)
    assert [stored(pool_id) for pool_id in ("pool", "other")] == before
    assert_workflows_add_up()


def test_prune_keeps_the_number_of_runs_that_finished_at_one_time() -> None:
    for number in range(5):
        finish_run(f"wf_{number}", days_ago=1)
    Workflow.objects.update(finished_at=database_now())
    assert prune(RunRetention(max_runs=3)) == 2
    assert kept() == ["wf_2", "wf_3", "wf_4"]


def test_runs_that_finish_during_a_sweep_shift_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestration.services.retention.MAX_RUNS_PER_TRANSACTION", 2)
    for number in range(6):
        finish_run(f"wf_{number}", days_ago=6 - number)
    sweep = PruningSweep(RunRetention(max_runs=3))
    assert sweep.prune_block() == 2
    for number in range(6, 9):
        finish_run(f"wf_{number}", days_ago=0)
    assert [sweep.prune_block(), sweep.prune_block(), sweep.prune_block()] == [1, None, None]
    assert kept() == [f"wf_{number}" for number in range(3, 9)]


def test_run_that_is_retried_during_a_sweep_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    start_engine_run()
    services.cancel_workflow(workflow_id="wf")
    services.leave_pool(worker_id="box-1", process="box", error="It left")
    sweep = PruningSweep(RunRetention(max_runs=0))
    find_block = sweep._next_block

    def find_and_retry(rows: QuerySet[Workflow]) -> list[str]:
        found = find_block(rows)
        services.retry_run(workflow_id="wf")
        return found

    monkeypatch.setattr(sweep, "_next_block", find_and_retry)
    assert sweep.prune_block() == 0
    assert kept() == ["wf"]


def test_pruned_run_takes_everything_along_and_frees_its_key() -> None:
    slot = start_engine_run()
    stage_id = Stage.objects.get().pk
    services.store_step(stage_id, 2, name="ask", arguments_digest="", output=None, output_bytes=4)
    services.complete_attempt(stage_id, 2, slot=slot, output="done")
    assert (FailedAttempt.objects.count(), StepRecord.objects.count()) == (1, 1)
    assert prune(RunRetention(max_runs=0)) == 1
    assert [model.objects.count() for model in (Workflow, Stage, FailedAttempt, StepRecord)] == [0, 0, 0, 0]
    assert Worker.objects.get().status == "idle"


def test_cancelled_run_is_kept_while_a_worker_still_runs_its_stage() -> None:
    slot = start_engine_run()
    services.cancel_workflow(workflow_id="wf")
    assert prune(RunRetention(max_runs=0)) == 0
    stage_id = Stage.objects.get().pk
    assert not services.complete_attempt(stage_id, 2, slot=slot, output="late").accepted
    assert prune(RunRetention(max_runs=0)) == 1


def test_prune_takes_a_constant_number_of_statements() -> None:
    def statements(runs: int) -> int:
        for number in range(runs):
            finish_run(f"wf_{number}", days_ago=1)
        with CaptureQueriesContext(connection) as captured:
            assert PruningSweep(RunRetention(max_runs=0)).prune_block() == runs
        return len(captured)

    assert statements(3) == statements(MAX_RUNS_PER_TRANSACTION)


def test_scheduler_prunes_by_the_limits(settings: Settings) -> None:
    settings.MAHAVISHNU_ENGINE = EngineLimits(max_run_age_seconds=86400, max_finished_runs=1)
    for days_ago in (3, 0.5, 0):
        finish_run(f"wf_{days_ago}", days_ago=days_ago)
    scheduler = Scheduler()
    # The old run by its age, the other by the number.
    assert [scheduler.prune_runs(database_now()) for _ in range(3)] == [1, 1, 0]
    assert kept() == ["wf_0"]
    finish_run("later", days_ago=2)
    assert scheduler.prune_runs(database_now()) == 0, "the next look is a minute later"


def test_command_counts_and_prunes(capsys: pytest.CaptureFixture[str]) -> None:
    finish_run("old", days_ago=40)
    finish_run("new", days_ago=1)
    call_command("prune_runs", "--older-than", "30d", "--dry-run")
    call_command("prune_runs", "--older-than", "30d", "--keep", "2")
    call_command("prune_runs", "--dry-run")
    assert kept() == ["new", "old"]
    call_command("prune_runs", "--older-than", "30d", "--status", "completed")
    assert kept() == ["new"]
    assert capsys.readouterr().out.splitlines() == [
        "Would delete 1 finished runs",
        "Deleted 0 finished runs",
        "Would delete 0 finished runs",
        "Deleted 1 finished runs",
    ]
    for arguments in (["--older-than", "30"], ["--keep", "-1"], ["--status", "running"], ["--pool", "pool"]):
        with pytest.raises(CommandError):
            call_command("prune_runs", *arguments)


def test_removed_pool_takes_its_offline_workers_along(recorded: list[RecordedSignal]) -> None:
    worker_with("offline")
    recorded.clear()
    services.remove_pool(pool_id="pool")
    assert (Pool.objects.count(), Worker.objects.count()) == (0, 0)
    assert [each for each in names_and_ids(recorded) if each[0] != "pool_metrics_changed"] == [
        ("worker_removed", "worker"),
        ("pool_removed", "pool"),
    ]
    with pytest.raises(services.PoolNotFound):
        services.remove_pool(pool_id="pool")


@pytest.mark.parametrize(
    ("occupy", "counts"),
    [
        (lambda: workflow_with(), (1, 0, 0)),
        (lambda: workflow_with("completed"), (0, 0, 1)),
        (lambda: worker_with("idle"), (0, 1, 0)),
        (lambda: worker_with("error"), (0, 1, 0)),
    ],
    ids=["running", "finished", "idle", "error"],
)
def test_pool_in_use_cannot_be_removed(occupy: Callable[[], object], counts: tuple[int, int, int]) -> None:
    occupy()
    with pytest.raises(services.PoolInUse) as refused:
        services.remove_pool(pool_id="pool")
    error = refused.value
    assert (error.unfinished, error.workers, error.finished) == counts
    assert "manage.py prune_runs --keep 0 --pool pool" in str(error)
    assert Pool.objects.count() == 1


def test_misspelled_pool_is_rejected_where_pools_are_not_created(settings: Settings) -> None:
    settings.MAHAVISHNU_CREATE_POOLS = False
    pool_with(pool_id="local")
    plan = Plan(name="run", adapter="python", stages=(StagePlan(name="one", step=0),))
    for call in (
        lambda: services.start_run(plan, prompt="", params={}, pool_id="loacl"),
        lambda: services.join_pool(name="box", process="box", pool_id="loacl"),
    ):
        with pytest.raises(services.UnknownPool) as refused:
            call()
        assert str(refused.value) == (
            "Pool loacl not found. Did you mean local? Pools: local. `manage.py create_pool loacl` creates it."
        )
    services.start_run(plan, prompt="", params={}, pool_id="local")
    call_command("create_pool", "loacl")
    call_command("remove_pool", "loacl")
    assert list(Pool.objects.values_list("pk", flat=True)) == ["local"]


@pytest.mark.parametrize("in_bulk", [False, True], ids=["instance", "query set"])
def test_rows_that_something_needs_cannot_be_deleted(*, in_bulk: bool) -> None:
    start_engine_run()
    rows = [Workflow.objects.filter(pk="wf"), Stage.objects.filter(workflow_id="wf"), Worker.objects.all()]
    rows.append(Pool.objects.filter(pk="pool"))
    for queryset in rows:
        before = queryset.count()
        with pytest.raises(ProtectedError):
            queryset.delete() if in_bulk else queryset.get().delete()
        assert queryset.count() == before
    with pytest.raises(services.EngineWorker):
        services.remove_worker(worker_id="box-1")
    services.cancel_workflow(workflow_id="wf")
    Workflow.objects.get().delete()
    assert Stage.objects.count() == 0


def test_worker_is_free_after_the_stage_that_was_deleted_under_it() -> None:
    slot = start_engine_run()
    stage_id = Stage.objects.get().pk
    services.cancel_workflow(workflow_id="wf")
    Workflow.objects.get().delete()
    assert Worker.objects.get().status == "busy"
    assert not services.complete_attempt(stage_id, 2, slot=slot, output="late").accepted
    assert Worker.objects.get().status == "idle"


def test_pending_stage_of_an_external_workflow_can_be_deleted() -> None:
    stage_with("pending").delete()
    assert_workflows_add_up()
