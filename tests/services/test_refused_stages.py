"""Stages that workers refuse: their messages, and what is remembered of them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from orchestration import services
from orchestration.db.clock import database_now
from orchestration.dispatch import queued_messages
from orchestration.models import Stage, UnmetRequirement, Workflow
from orchestration.plan import Plan, StagePlan
from orchestration.services import capabilities
from orchestration.services.capabilities import MAX_STAGE_REQUIREMENTS, NOT_RUNNABLE_SECONDS
from orchestration.services.dispatch_window import window_size
from orchestration.services.holds import (
    FIRST_HELD_SECONDS,
    FIRST_REFUSED_SECONDS,
    MAX_HELD_SECONDS,
    MAX_REFUSED_SECONDS,
)
from tests.models.counter_audit import assert_all_add_up
from tests.services.held_runs import dispatch_again, end_holds, hold_of, refuse, start_parallel_run
from tests.services.one_stage_runs import join, start_run
from tests.services.signal_recorder import RecordedSignal, names_and_ids

pytestmark = [
    pytest.mark.both_databases,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("valkey"),
]


@pytest.mark.parametrize(
    ("others", "hours", "pause_seconds"),
    [(1, 0, FIRST_REFUSED_SECONDS), (1, 9, MAX_REFUSED_SECONDS), (0, 0, FIRST_HELD_SECONDS), (0, 9, MAX_HELD_SECONDS)],
)
def test_refused_stage_has_no_message_for_a_while(others: int, hours: int, pause_seconds: float) -> None:
    slot, _ = join("box"), [join("other") for _ in range(others)]
    stage = start_run()
    Stage.objects.update(queued_at=timezone.now() - timedelta(hours=hours))
    refuse(slot, stage)
    stage.refresh_from_db()
    assert (stage.status, stage.dispatch_due_at) == ("queued", None)
    assert not dispatch_again(stage, after=pause_seconds / 2)
    assert dispatch_again(stage, after=pause_seconds + 1)
    stage.refresh_from_db()
    assert (stage.refused_until, stage.dispatch_due_at is None) == (None, False)
    assert not dispatch_again(stage, after=pause_seconds + 1)


def test_held_run_is_dispatched_when_a_worker_has_joined_that_may_take_it() -> None:
    stage = start_run()
    refuse(join("box"), stage)
    assert not dispatch_again(stage, after=1)
    join("new")
    assert end_holds() == ["wf"]
    assert dispatch_again(stage, after=1)


def test_move_dispatches_a_refused_stage_in_the_other_pool() -> None:
    stage = start_run()
    refuse(join("box"), stage)
    services.create_pool(pool_id="other")
    services.reassign_workflow(workflow_id="wf", to_pool_id="other")
    stage.refresh_from_db()
    assert (stage.refused_until, stage.dispatch_due_at is None) == (None, False)


def test_wide_run_continues_behind_a_refused_stage() -> None:
    slot = join("box")
    first, second, *_ = start_parallel_run(8)
    refuse(slot, first)
    assert services.claim_stage(second.pk, 1, slot=slot) is not None
    first.refresh_from_db()
    assert (first.status, first.dispatch_due_at, first.refused_until is None) == ("queued", None, False)
    assert Stage.objects.filter(status="queued", dispatch_due_at__isnull=False).exists()


def test_wide_run_dispatches_refused_stages_through_its_window() -> None:
    slot = join("box")
    stages = start_parallel_run(20)
    for stage in stages:
        refuse(slot, stage)
    able = join("able")
    assert end_holds() == ["wf"]
    ids = [stage.pk for stage in stages]
    assert services.dispatch_refused(ids[:1], now=database_now() + timedelta(seconds=1)) == len(stages)
    dispatched = Stage.objects.filter(dispatch_due_at__isnull=False)
    assert (dispatched.count(), Stage.objects.filter(refused_until__isnull=False).count()) == (window_size(2), 0)
    for stage in stages:
        assert services.claim_stage(stage.pk, 1, slot=able) is not None
        services.complete_attempt(stage.pk, 1, slot=able, output=None)
    assert Workflow.objects.get().status == "completed"
    assert_all_add_up()


def test_stage_that_a_worker_gives_back_has_no_message_until_it_is_dispatched_again() -> None:
    slot, stage = join("box"), start_run()
    assert services.claim_stage(stage.pk, 1, slot=slot) is not None
    before = queued_messages("pool")
    services.release_attempt(stage.pk, 1, slot=slot, missing=services.Requirement("a GPU"))
    stage.refresh_from_db()
    assert (queued_messages("pool"), stage.dispatch_due_at) == (before, None)
    assert services.refill_window("wf") == 0
    join("new")
    assert end_holds() == ["wf"]
    assert dispatch_again(stage, after=0)
    assert queued_messages("pool") == (before or 0) + 1


def test_stage_that_a_worker_gives_back_after_a_move_is_queued_once_in_the_other_pool() -> None:
    slot, stage = join("box"), start_run()
    assert services.claim_stage(stage.pk, 1, slot=slot) is not None
    services.create_pool(pool_id="other")
    services.reassign_workflow(workflow_id="wf", to_pool_id="other")
    services.release_attempt(stage.pk, 1, slot=slot, missing=services.Requirement("a GPU"))
    assert hold_of() == ("", "")
    before = queued_messages("other") or 0
    assert services.queue_retry(stage.pk, due_before=database_now())
    assert not dispatch_again(stage, after=MAX_HELD_SECONDS)
    assert queued_messages("other") == before + 1


def test_process_tries_a_stage_again_some_time_after_it_found_something_missing() -> None:
    slot, stage = join("box"), start_run()
    at = timezone.now()
    assert services.claim_stage(stage.pk, 1, slot=slot) is not None
    services.release_attempt(stage.pk, 1, slot=slot, missing=services.Requirement("a GPU"), at=at)
    with pytest.raises(services.StageNotRunnable):
        services.claim_stage(stage.pk, 2, slot=slot, at=at + timedelta(seconds=NOT_RUNNABLE_SECONDS - 1))
    assert services.claim_stage(stage.pk, 2, slot=slot, at=at + timedelta(seconds=NOT_RUNNABLE_SECONDS + 1)) is not None
    assert hold_of() == ("", "")


def test_worker_remembers_a_bounded_number_of_unmet_requirements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capabilities, "MAX_UNMET_REQUIREMENTS", 3)
    slot = join("box")
    for number in range(5):
        refuse(slot, start_run(f"wf_{number}"), f"program {number}")
    names = UnmetRequirement.objects.order_by("pk").values_list("name", flat=True)
    assert list(names) == [f"program {number}" for number in (2, 3, 4)]


def test_stage_remembers_a_bounded_number_of_requirements() -> None:
    slot, stage = join("box"), start_run()
    for number in range(MAX_STAGE_REQUIREMENTS + 3):
        refuse(slot, stage, f"program {number}")
    stage.refresh_from_db()
    assert len(stage.requirements.splitlines()) == MAX_STAGE_REQUIREMENTS


def test_refused_stages_of_a_wide_run_are_dispatched_after_those_that_no_worker_has_refused() -> None:
    slot, other = join("box"), join("other")
    stages = start_parallel_run(16)
    window = window_size(2)
    for stage in stages[:window]:
        refuse(slot, stage)
    services.refill_window("wf")
    for stage in stages[window : 2 * window]:
        refuse(slot, stage)
    refused = [stage.pk for stage in stages[: 2 * window]]
    assert services.dispatch_refused(refused, now=database_now() + timedelta(seconds=1)) == 0
    dispatched = Stage.objects.filter(dispatch_due_at__isnull=False).order_by("position")
    assert list(dispatched) == stages[2 * window : 3 * window]
    for stage in stages[2 * window :]:
        assert services.claim_stage(stage.pk, 1, slot=slot) is not None
        services.complete_attempt(stage.pk, 1, slot=slot, output=None)
    later = database_now() + timedelta(seconds=MAX_REFUSED_SECONDS + 1)
    assert services.dispatch_refused(refused, now=later) == len(refused)
    assert services.claim_stage(refused[0], 1, slot=other) is not None


def test_stages_that_were_given_back_run_when_one_of_them_has_completed(recorded: list[RecordedSignal]) -> None:
    slot, other, at = join("box"), join("another"), timezone.now()
    stages = [start_run(f"wf_{number}") for number in range(3)]
    for stage in stages:
        for number, each in enumerate((slot, other), start=1):
            assert services.claim_stage(stage.pk, number, slot=each) is not None
            services.release_attempt(stage.pk, number, slot=each, missing=services.Requirement("a GPU"), at=at)
    recorded.clear()
    later = at + timedelta(seconds=NOT_RUNNABLE_SECONDS + 1)
    assert services.claim_stage(stages[0].pk, 3, slot=slot, at=later) is not None
    assert end_holds() == [], "it may find that again"
    services.complete_attempt(stages[0].pk, 3, slot=slot, output=None)
    assert end_holds() == ["wf_1", "wf_2"]
    with pytest.raises(services.StageNotRunnable):
        services.claim_stage(stages[1].pk, 3, slot=other)
    for stage in stages[1:]:
        assert services.claim_stage(stage.pk, 3, slot=slot) is not None
        services.complete_attempt(stage.pk, 3, slot=slot, output=None)
    assert "workflow_held" not in [name for name, _ in names_and_ids(recorded)]


def test_start_of_a_stage_that_another_process_refused_ends_no_hold_for_what_is_found_at_run_time() -> None:
    slot, other = join("box"), join("another")
    given_back, refused = start_run("given_back"), start_run("refused")
    refuse(other, given_back, "program x")
    assert services.claim_stage(given_back.pk, 1, slot=slot) is not None
    services.release_attempt(given_back.pk, 1, slot=slot, missing=services.Requirement("program x"))
    assert hold_of("given_back")[0] == "no_worker_with"
    refuse(other, refused, "program x")
    assert services.claim_stage(refused.pk, 1, slot=slot) is not None
    assert end_holds() == []


def test_slot_that_joins_later_does_not_try_what_its_process_has_given_back() -> None:
    slot, stage = join("box"), start_run()
    assert services.claim_stage(stage.pk, 1, slot=slot) is not None
    services.release_attempt(stage.pk, 1, slot=slot, missing=services.Requirement("a GPU"))
    with pytest.raises(services.StageNotRunnable):
        services.claim_stage(stage.pk, 2, slot=join("box"))


def test_worker_does_not_continue_with_a_stage_that_its_process_has_given_back() -> None:
    slot = join("box")
    plan = Plan(name="refused", adapter="python", stages=tuple(StagePlan(name=f"s{n}", step=n) for n in range(2)))
    run = services.start_run(plan, prompt="", params={}, pool_id="pool", workflow_id="wf")
    first, second = run.stages.order_by("position")
    assert services.claim_stage(first.pk, 1, slot=slot) is not None
    outcome = services.complete_attempt(first.pk, 1, slot=slot, output=None, continue_inline=services.nothing_missing)
    assert outcome.next is not None
    services.release_attempt(second.pk, 1, slot=slot, missing=services.Requirement("a GPU"))
    services.cancel_workflow(workflow_id="wf")
    services.retry_run(workflow_id="wf", from_stage="s0")
    assert services.claim_stage(first.pk, 2, slot=slot) is not None
    outcome = services.complete_attempt(first.pk, 2, slot=slot, output=None, continue_inline=services.nothing_missing)
    assert outcome == services.AttemptOutcome(accepted=True, next=None)
