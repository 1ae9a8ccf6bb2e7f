"""A wide run that is retried, moved, skipped, saved or ended keeps its dispatch window."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from orchestration import services
from orchestration.db.clock import database_now
from orchestration.dispatch import queued_messages
from orchestration.models import Stage, Workflow
from orchestration.scheduler import Scheduler
from orchestration.services.dispatch_window import MIN_WINDOW_MESSAGES, window_size
from tests.models.counter_audit import assert_all_add_up, assert_workflows_add_up
from tests.services.broker_worker import take_messages
from tests.services.wide_runs import WIDTH, dispatched, is_marked, join_workers, parts, start_run

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


def test_lost_stage_of_a_wide_run_is_dispatched_next(pool_id: str) -> None:
    first, second = join_workers(pool_id, 2)
    start_run(pool_id)
    assert first.take() is not None
    services.expire_lease(Stage.objects.get(name="part_0").pk, expired_before=database_now() + timedelta(days=1))
    assert "part_0" not in dispatched()
    ran = [stage.name for _ in range(6) if (stage := second.run_next())]
    assert "part_0" in ran
    assert_all_add_up()


def test_due_retries_of_a_wide_run_are_dispatched_within_its_window(pool_id: str) -> None:
    (worker,) = join_workers(pool_id, 1)
    start_run(pool_id, max_attempts=2, backoff_seconds=60)
    while (claim := worker.take()) is not None:
        services.fail_attempt(claim.stage.pk, claim.attempt, slot=worker.slot, error="It broke")
    assert not is_marked()
    Stage.objects.filter(retry_at__isnull=False).update(retry_at=database_now() - timedelta(seconds=1))
    assert Scheduler().queue_retries(database_now()) == WIDTH
    assert queued_messages(pool_id) == len(dispatched()) == MIN_WINDOW_MESSAGES
    assert is_marked()
    assert len(list(worker.run_all())) == WIDTH + 1
    assert Workflow.objects.get().status == "completed"


@pytest.mark.parametrize("end", ["cancel_workflow", "fail_workflow", "complete_workflow", "time_out_workflow"])
def test_finished_run_dispatches_nothing(pool_id: str, end: str) -> None:
    (worker,) = join_workers(pool_id, 1)
    start_run(pool_id)
    getattr(services, end)(workflow_id="wide", **({"error": "It broke"} if end == "fail_workflow" else {}))
    assert not is_marked()
    assert services.refill_window("wide") == Scheduler().refill_windows(database_now()) == 0
    for _ in range(MIN_WINDOW_MESSAGES):
        assert worker.run_next() is None
    assert queued_messages(pool_id) == 0
    assert_all_add_up()


def test_failed_stage_of_a_wide_run_ends_it(pool_id: str) -> None:
    (worker,) = join_workers(pool_id, 1)
    start_run(pool_id)
    claim = worker.take()
    assert claim is not None
    services.fail_attempt(claim.stage.pk, claim.attempt, slot=worker.slot, error="It broke")
    assert (Workflow.objects.get().status, is_marked(), dispatched()) == ("failed", False, [])


@pytest.mark.parametrize("from_stage", [None, "part_5", "last"])
def test_retried_run_has_a_new_window(pool_id: str, from_stage: str | None) -> None:
    (worker,) = join_workers(pool_id, 1)
    start_run(pool_id)
    done = [stage.name for _ in range(8) if (stage := worker.run_next())]
    services.cancel_workflow(workflow_id="wide")
    take_messages(pool_id, at_most=WIDTH)
    services.retry_run(workflow_id="wide", from_stage=from_stage)
    assert queued_messages(pool_id) == len(dispatched()) == MIN_WINDOW_MESSAGES
    ran = [stage.name for stage in worker.run_all()]
    assert ran == [*(name for name in parts(*range(WIDTH)) if name not in done or name == from_stage), "last"]
    assert (Workflow.objects.get().status, is_marked()) == ("completed", False)
    assert_workflows_add_up()


def test_moved_run_has_a_window_in_its_new_pool(pool_id: str, unique: Callable[[str], str]) -> None:
    old, new = join_workers(pool_id, 1)[0], unique("moved")
    services.create_pool(pool_id=new)
    start_run(pool_id)
    assert old.run_next() is not None
    other = join_workers(new, 3)
    services.reassign_workflow(workflow_id="wide", to_pool_id=new)
    assert queued_messages(new) == len(dispatched()) == window_size(3)
    assert list(old.run_all()) == []
    assert [stage.name for stage in other[0].run_all()] == [*parts(*range(1, WIDTH)), "last"]
    assert_all_add_up()


def test_moved_narrow_run_is_dispatched_in_its_new_pool(pool_id: str, unique: Callable[[str], str]) -> None:
    new = services.create_pool(pool_id=unique("moved")).pk
    start_run(pool_id, width=2)
    services.reassign_workflow(workflow_id="wide", to_pool_id=new)
    assert (queued_messages(new), is_marked()) == (2, False)


def test_skipped_stages_leave_no_mark(pool_id: str) -> None:
    (worker,) = join_workers(pool_id, 1)
    start_run(pool_id, width=6)
    for number in range(6):
        services.skip_stage(workflow_id="wide", stage_name=f"part_{number}")
    assert is_marked()
    # The messages of the skipped stages have no effect.
    ran = [worker.run_next() for _ in range(MIN_WINDOW_MESSAGES + 1)]
    assert [stage.name for stage in ran if stage is not None] == ["last"]
    assert not is_marked()


def test_save_of_an_old_instance_keeps_the_mark(pool_id: str) -> None:
    (worker,) = join_workers(pool_id, 1)
    start_run(pool_id, before=1)
    old = Workflow.objects.get()
    assert worker.run_next() is not None
    old.prompt = "Changed in the admin"
    old.save()
    assert is_marked()
    assert [stage.name for stage in worker.run_all()] == [*parts(*range(WIDTH)), "last"]
