"""The statuses in which a run can be retried or moved."""

from __future__ import annotations

import pickle

import pytest

from orchestration import services
from orchestration.models import Workflow
from orchestration.plan import Plan, StagePlan
from orchestration.sdk.run import RunFailed, RunTimeout

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


def test_errors_of_a_run_name_the_workflow() -> None:
    assert str(RunFailed("wf", "timeout", "Execution timeout")) == "Workflow wf has status timeout: Execution timeout"
    assert str(RunTimeout("wf", 3)) == "Workflow wf did not finish within 3 s"
