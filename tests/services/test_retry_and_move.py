"""The statuses in which a run can be retried or moved."""

from __future__ import annotations

import pickle

import pytest

from orchestration import services
from orchestration.db.clock import database_now
from orchestration.models import Stage, Workflow
from orchestration.plan import Plan, StagePlan
from orchestration.sdk.run import RunFailed, RunTimeout
from tests.models.counter_audit import assert_all_add_up

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


@pytest.fixture(autouse=True)
def run() -> Workflow:
    plan = Plan(name="changed", adapter="python", stages=(StagePlan(name="one", step=0),))
    return services.start_run(plan, prompt="", params={}, pool_id="pool", workflow_id="wf")


def test_retry_run_rejects_an_unfinished_run() -> None:
    with pytest.raises(services.IllegalTransition) as error:
        services.retry_run(workflow_id="wf", from_stage="one")
    assert str(error.value) == "Workflow wf has status running; only a finished workflow can be retried."


def test_retry_run_rejects_a_completed_run_without_a_stage() -> None:
    services.complete_workflow(workflow_id="wf")
    with pytest.raises(services.IllegalTransition) as error:
        services.retry_run(workflow_id="wf")
    assert str(error.value) == "Workflow wf has status completed; name the stage to repeat from."
    assert services.retry_run(workflow_id="wf", from_stage="one").status == "running"


def test_reassign_workflow_rejects_a_finished_run() -> None:
    services.create_pool(pool_id="other")
    services.time_out_workflow(workflow_id="wf")
    with pytest.raises(services.IllegalTransition) as error:
        services.reassign_workflow(workflow_id="wf", to_pool_id="other")
    message = "Workflow wf has status timeout; only an unfinished workflow can be moved."
    assert str(error.value) == str(pickle.loads(pickle.dumps(error.value))) == message


def test_attempt_of_a_run_that_moved_is_repeated_in_its_new_pool() -> None:
    slot = services.Slot(worker_id=services.join_pool(name="box", process="box", pool_id="pool"), process="box")
    stage = Stage.objects.get()
    assert services.claim_stage(stage.pk, 1, slot=slot) is not None
    services.create_pool(pool_id="other")
    services.reassign_workflow(workflow_id="wf", to_pool_id="other")
    assert services.leave_pool(worker_id="box-1", process="box", error="It died")
    assert services.queue_retry(stage.pk, due_before=database_now())
    stage.refresh_from_db()
    assert (stage.status, stage.pool_id, stage.lost_attempts) == ("queued", "other", 1)
    assert_all_add_up()


def test_errors_of_a_run_name_the_workflow() -> None:
    assert str(RunFailed("wf", "timeout", "Execution timeout")) == "Workflow wf has status timeout: Execution timeout"
    assert str(RunTimeout("wf", 3)) == "Workflow wf did not finish within 3 s"
