"""Waiting for a run: not in a transaction, and with a warning in a stage of the run's pool."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connections, transaction

from orchestration import services
from orchestration.models import Workflow
from orchestration.sdk import Run, WaitInTransaction
from tests.adapters.attempt_runner import POOL, claim_attempt
from tests.jobs.coroutines import waiting_for_another
from tests.jobs.workflows import one_empty_stage

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]

WAITS: dict[str, Callable[[Run], Any]] = {"wait": Run.wait, "awaited": lambda run: async_to_sync(run.awaited)()}


@pytest.mark.both_databases
@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_wait_in_a_transaction_is_rejected_unless_the_run_is_finished(wait: Callable[[Run], Any]) -> None:
    attempt = claim_attempt(one_empty_stage)
    run = Run(attempt.claim.workflow.pk)
    rejected = f"^Cannot wait for workflow {run.workflow_id} in a database transaction: a run starts after the commit"
    with transaction.atomic(), pytest.raises(WaitInTransaction, match=rejected):
        wait(run)
    transaction.set_autocommit(False)
    try:
        with pytest.raises(WaitInTransaction, match=rejected):
            wait(run)
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)
    attempt.complete("done")
    with transaction.atomic():
        assert wait(run) == "done"
        with pytest.raises(services.WorkflowNotFound):
            wait(Run("wf_nowhere"))


@pytest.mark.parametrize("method", ["wait", "await"])
@pytest.mark.parametrize("pool", [POOL, "another"])
def test_stage_that_waits_for_a_run_in_its_own_pool_is_logged(
    caplog: pytest.LogCaptureFixture, method: str, pool: str
) -> None:
    attempt = claim_attempt(waiting_for_another, method, other_pool=pool)
    attempt.run()
    asyncio.run(sync_to_async(connections.close_all)())
    stage = attempt.claim.stage
    (other,) = Workflow.objects.exclude(pk=stage.workflow_id)
    line = (
        f"Stage {stage.workflow_id}/{stage.name} waits for workflow {other.pk} in its own pool {pool}, "
        "and keeps a slot that the workflow may need; a sub-run needs none"
    )
    warnings = [record.getMessage() for record in caplog.records if record.name.startswith("orchestration.")]
    assert warnings == ([line] if pool == POOL else [])


def test_wait_outside_a_stage_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(TimeoutError):
        one_empty_stage.start(pool=POOL).wait(timeout_seconds=0)
    assert [record for record in caplog.records if record.name.startswith("orchestration.")] == []
