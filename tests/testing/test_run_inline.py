"""`run_inline`: real services, adapters and events, without broker and worker."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from pytest_django import Settings

from orchestration import services
from orchestration.models import FailedAttempt, Stage, Worker, WorkerStatus, Workflow
from orchestration.sdk import RunFailed
from orchestration.services import PoolNotAccepting
from orchestration.testing import InlineResult, RunStuck, StageTimeout, WorkerLost, run_inline
from realtime.models import Event
from tests.models.counter_audit import assert_all_add_up
from tests.testing import shop

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


@pytest.fixture(autouse=True)
def calls() -> Iterator[list[str]]:
    shop.calls.clear()
    yield shop.calls
    shop.effects.clear()


def event_names(result: InlineResult) -> list[str]:
    return [event.name for event in result.events]


def test_run_inline_returns_output_stages_and_logs(calls: list[str]) -> None:
    result = run_inline(shop.order, "for Ada", item="coffee", workflow_id="wf_order")
    box, reserved = "a box with coffee", {"item": "coffee", "prompt": "for Ada"}
    outputs = {"reserve": reserved, "charge": "wf_order/charge", "pack": box}
    assert (result.status, result.error, result.output) == ("completed", "", outputs)
    assert calls == ["reserve 1", "charge 1", "pack"]
    assert {name: stage.output for name, stage in result.stages.items()} == {**outputs, "send": outputs}
    assert {(stage.status, stage.attempts, stage.error) for stage in result.stages.values()} == {("completed", 1, "")}
    assert result.stages["reserve"].logs == ("Reserving coffee",)
    assert result.logs == ("Reserving coffee", "Packing")


def test_run_inline_stores_the_run_and_leaves_no_worker_online() -> None:
    result = run_inline(shop.order, item="coffee")
    stored = result.run.workflow
    assert (stored.status, stored.params, stored.pool_id) == ("completed", {"item": "coffee"}, "local")
    assert set(Worker.objects.values_list("status", flat=True)) == {WorkerStatus.OFFLINE}
    assert_all_add_up()


def test_run_inline_returns_the_events_of_the_channel_in_order() -> None:
    result = run_inline(shop.order, "for Ada", workflow_id="wf_order")
    assert event_names(result) == [
        "workflow.created",
        "workflow.started",
        "workflow.stages_queued",
        "workflow.stage_started",
        "workflow.stage_log",
        "workflow.stage_progress",
        "workflow.stage_completed",
        "workflow.stages_queued",
        "workflow.stage_started",
        "workflow.stage_completed",
        "workflow.stage_started",
        "workflow.stage_log",
        "workflow.stage_completed",
        "workflow.stages_queued",
        "workflow.stage_started",
        "workflow.stage_completed",
        "workflow.completed",
    ]
    started = result.events[1].data
    assert {**started, "timestamp": None} == {
        "timestamp": None,
        "workflow_id": "wf_order",
        "name": "order",
        "adapter": "python",
        "prompt": "for Ada",
    }
    progress = result.events[5].data
    assert (progress["stage_name"], progress["progress"], progress["message"]) == ("reserve", 0.5, "half")


@pytest.mark.django_db(transaction=True)
def test_events_are_those_of_the_log_when_the_test_commits() -> None:
    result = run_inline(shop.order, "for Ada", item="coffee")
    room = f"workflow:{result.workflow_id}"
    logged = Event.objects.filter(rooms__room=room).order_by("seq")
    assert [(event.name, json.loads(event.data)) for event in logged] == [
        (event.name, event.data) for event in result.events
    ]
    assert len(result.events) == 17


def test_failed_run_raises_run_failed_from_the_exception_of_the_stage() -> None:
    result = run_inline(shop.failing_order, workflow_id="wf_failing")
    with pytest.raises(RunFailed) as caught:
        _ = result.output
    error = "The stage fail failed: ValueError: No stock"
    assert str(caught.value) == f"Workflow wf_failing has status failed: {error}"
    assert isinstance(caught.value.__cause__, ValueError)
    assert (result.status, result.error) == ("failed", error)
    stage = result.stages["fail"]
    assert (stage.error, stage.failed_attempts) == ("ValueError: No stock", ("ValueError: No stock",))
    assert (result.stages["send"].status, result.stages["send"].attempts) == ("cancelled", 0)
    assert event_names(result)[-2:] == ["workflow.stage_failed", "workflow.failed"]


def test_stage_failed_without_retry_uses_one_attempt() -> None:
    result = run_inline(shop.rejected_order)
    assert (result.stages["reject"].attempts, result.stages["reject"].error) == (1, "The card is expired")


def test_retries_do_not_wait() -> None:
    shop.raise_in_turn(ConnectionError("down"), ConnectionError("still down"))
    began = time.monotonic()
    result = run_inline(shop.order)
    assert time.monotonic() - began < 50
    charge = result.stages["charge"]
    assert (result.status, charge.attempts, charge.output) == ("completed", 3, f"{result.workflow_id}/charge")
    assert charge.failed_attempts == ("ConnectionError: down", "ConnectionError: still down")
    assert event_names(result).count("workflow.stage_retrying") == 2


def test_skipped_waits_count_towards_the_time_limit_of_the_run() -> None:
    result = run_inline(shop.patient_order)
    # 50 to 100 s before each retry.
    assert result.status == "timeout"
    assert 3 <= result.stages["call_bank"].attempts <= 5
    with pytest.raises(RunFailed, match="has status timeout"):
        _ = result.output


def test_stage_that_exceeds_its_time_limit_counts_as_timed_out() -> None:
    result = run_inline(shop.slow_order)
    assert (result.status, result.stages["sleep"].error) == ("failed", "The stage took longer than 0.05 s")
    assert FailedAttempt.objects.get().reason == "timed_out"


def test_stage_timeout_exceeds_the_time_limit_without_a_wait() -> None:
    shop.raise_in_turn(StageTimeout())
    result = run_inline(shop.order)
    assert (result.status, result.stages["charge"].attempts) == ("completed", 2)
    assert result.stages["charge"].failed_attempts == ("The stage took longer than 60 s",)
    (retrying,) = (event for event in result.events if event.name == "workflow.stage_retrying")
    assert retrying.data["reason"] == "timed_out"


def test_stage_timeout_without_a_time_limit_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def take_for_ever(**_: Any) -> None:
        raise StageTimeout

    monkeypatch.setattr(services, "cancel_workflow", take_for_ever)
    with pytest.raises(ValueError, match="StageTimeout in cancel: neither the stage nor its run has a time limit"):
        run_inline(shop.cancelled_order)


def test_worker_lost_runs_the_stage_again_without_using_up_an_attempt() -> None:
    shop.raise_in_turn(WorkerLost(), ConnectionError("down"), ConnectionError("down"))
    result = run_inline(shop.order)
    assert (result.status, result.stages["charge"].attempts) == ("completed", 4)
    assert result.stages["charge"].failed_attempts[0] == "The worker process died"
    assert FailedAttempt.objects.order_by("pk")[0].reason == "lost"


def test_run_that_exceeds_its_time_limit_is_cancelled_and_times_out() -> None:
    result = run_inline(shop.overdue_order)
    assert (result.status, result.stages["wait_until_cancelled"].status) == ("timeout", "cancelled")
    assert event_names(result)[-1] == "workflow.failed"


def test_cancelled_run_ends_and_its_stage_can_see_it(calls: list[str]) -> None:
    result = run_inline(shop.cancelled_order)
    assert (result.status, result.error, calls) == ("cancelled", "Sold out", ["cancelled: True"])
    assert event_names(result)[-1] == "workflow.cancelled"


def test_output_that_is_not_json_fails_the_stage() -> None:
    result = run_inline(shop.odd_order)
    assert result.stages["return_object"].error.startswith("The stage returned an object, which is not JSON: ")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), pytest.fail.Exception("Not called like this")])
def test_errors_that_are_for_the_test_end_it(error: BaseException) -> None:
    shop.raise_in_turn(error)
    with pytest.raises(type(error)):
        run_inline(shop.order)
    assert set(Worker.objects.values_list("status", flat=True)) == {WorkerStatus.OFFLINE}


def test_exit_of_a_stage_fails_its_attempt() -> None:
    shop.raise_in_turn(SystemExit(3))
    assert run_inline(shop.order).stages["charge"].failed_attempts == ("SystemExit: 3",)


def test_start_errors_are_raised() -> None:
    services.create_pool(pool_id="local")
    services.drain_pool(pool_id="local")
    with pytest.raises(PoolNotAccepting):
        run_inline(shop.order)
    assert not Workflow.objects.exists()


def test_second_run_with_a_key_returns_the_first(calls: list[str]) -> None:
    first, second = (run_inline(shop.order, key="ticket-1") for _ in range(2))
    assert (second.workflow_id, second.output) == (first.workflow_id, first.output)
    assert calls.count("reserve 1") == 1


def test_database_error_in_a_stage_does_not_end_the_transaction_of_the_test() -> None:
    with transaction.atomic():
        result = run_inline(shop.inserting_order)
        assert (result.status, result.stages["insert_twice"].attempts) == ("completed", 2)
        assert result.stages["insert_twice"].failed_attempts[0].startswith("IntegrityError: ")
        assert User.objects.count() == 1


def test_ignored_database_error_in_the_transaction_of_the_test_fails_in_words() -> None:
    result = run_inline(shop.careless_order)
    assert result.status == "failed"
    assert "run the test without a transaction: TransactionTestCase instead of TestCase" in result.error


@pytest.mark.django_db(transaction=True)
def test_stages_commit_at_once_when_the_test_does() -> None:
    assert run_inline(shop.committing_order).output is False
    assert run_inline(shop.careless_order).status == "completed"


def test_command_stages_run() -> None:
    result = run_inline(shop.printed_order)
    assert (result.stages["echo"].output["stdout"], result.stages["echo"].logs) == ("Hello\n", ("Hello",))
    assert (result.status, result.stages["fails"].status) == ("failed", "failed")


def test_llamaindex_workflow_runs() -> None:
    from demonstrations.workflows import demo_llamaindex

    result = run_inline(demo_llamaindex, path=str(shop.__file__).rpartition("/")[0])
    assert result.status == "completed"
    assert {stage.status for stage in result.stages.values()} <= {"completed", "skipped"}


def test_run_that_needs_another_process_is_stuck() -> None:
    shop.effects.append(lambda ctx: Stage.objects.filter(name="pack").update(status="pending"))
    with pytest.raises(RunStuck, match=r"is not finished, .* Unfinished stages: pack, send\.$"):
        run_inline(shop.order)


@pytest.mark.parametrize(("release", "stored"), [("", "inline"), ("v2", "v2")])
def test_pinned_workflow_runs(settings: Settings, release: str, stored: str) -> None:
    settings.MAHAVISHNU_RELEASE = release
    result = run_inline(shop.pinned_order)
    assert (result.status, result.run.workflow.release) == ("completed", stored)


def test_run_of_another_release_is_not_run(settings: Settings) -> None:
    settings.MAHAVISHNU_RELEASE = "v1"
    shop.pinned_order.start(key="ticket-1")
    settings.MAHAVISHNU_RELEASE = "v2"
    with pytest.raises(services.StageNotRunnable, match="release v1"):
        run_inline(shop.pinned_order, key="ticket-1")


def test_result_has_what_stages_have_written_into_their_streams() -> None:
    result = run_inline(shop.chat)
    assert result.stages["reply"].streams == {"answer": "Grüße, Ada", "sound": b"\x00\x01"}
    opened = [event.data["stream_name"] for event in result.events if event.name == "workflow.stream_opened"]
    assert (opened, result.stages["reply"].attempts) == (["answer", "answer", "sound"], 2)
