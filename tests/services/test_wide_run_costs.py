"""A stage costs the same in a run of any width: the same statements, and each finds its rows by an index in order."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from orchestration import services
from orchestration.models import Stage, Workflow
from orchestration.plan import Plan, StagePlan
from orchestration.scheduler import due_select
from orchestration.services import advance, dispatch_window
from orchestration.services.dispatch_window import MAX_NARROW_STAGES
from tests.harness.query_plans import collect_statistics, explain

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]

WIDTH = 1000

# By statement: the call that executes it, and the index that must find its rows.
SEARCHES: dict[str, tuple[Callable[[], object], str]] = {
    "the next stages": (lambda: advance._NEXT_TWO.rows("wide", 1), "orchestration_stage_unfinished"),
    "the size of the window": (lambda: dispatch_window._WINDOW.row("wide"), "orchestration_stage_window"),
    "the next messages": (lambda: dispatch_window._undispatched(3).rows("wide"), "orchestration_stage_window"),
    "runs with a small window": (lambda: due_select.SMALL_WINDOWS.rows(timezone.now()), "orchestration_workflow_wide"),
}


def start_wide_run(width: int, *, workflow_id: str = "wide") -> None:
    """Start a run with a wide step between two stages."""
    steps = [("first", 0), *((f"part_{number}", 1) for number in range(width)), ("last", 2)]
    stages = tuple(StagePlan(name=name, step=step) for name, step in steps)
    plan = Plan(name="wide", adapter="python", stages=stages)
    services.start_run(plan, prompt="", params={}, pool_id="pool", workflow_id=workflow_id)


def statements_of(call: Callable[[], object]) -> list[str]:
    with CaptureQueriesContext(connection) as captured:
        call()
    return [query["sql"] for query in captured if re.match("SELECT|INSERT|UPDATE|DELETE", query["sql"])]


def statements_of_stages(stages: int) -> Iterator[list[str]]:
    """Claim and complete stages one after the other, and yield the verbs and tables of the statements of each."""
    slot = services.Slot(worker_id=services.join_pool(name="w", process="w", pool_id="pool"), process="w")
    for _ in range(stages):
        stage = Stage.objects.filter(dispatch_due_at__isnull=False).order_by("position")[0]

        def finish(stage: Stage = stage) -> None:
            assert services.claim_stage(stage.pk, 1, slot=slot) is not None
            services.complete_attempt(stage.pk, 1, slot=slot, output=None)

        yield [re.sub(r"(\w+) .*?(\"\w+\").*", r"\1 \2", statement) for statement in statements_of(finish)]
    services.leave_pool(worker_id=slot.worker_id, process="w", error="It was stopped")


def test_stage_takes_the_same_statements_in_a_run_of_any_width() -> None:
    executed = []
    # Enough stages for the step that begins and for some windows.
    for width in (2 * MAX_NARROW_STAGES, WIDTH):
        start_wide_run(width)
        executed.append(list(statements_of_stages(MAX_NARROW_STAGES)))
        services.cancel_workflow(workflow_id="wide")
        Workflow.objects.get().delete()
    assert executed[0] == executed[1]


@pytest.fixture
def late_run() -> Iterator[None]:
    """Store a wide run of which most has run, beside many other runs; roll all back."""
    with transaction.atomic():
        start_wide_run(WIDTH)
        at = Workflow.objects.get().created_at
        Stage.objects.filter(position__lt=WIDTH - WIDTH // 10).update(
            status="completed", finished_at=at, dispatch_due_at=None
        )
        Stage.objects.filter(step=1, status="pending").update(status="queued", queued_at=at)
        names = [f"{letter}-{number}" for letter in "az" for number in range(500)]
        Workflow.objects.bulk_create(Workflow(id=name, adapter="python", pool_id="pool") for name in names)
        queued = {"pool_id": "pool", "status": "queued", "queued_at": at, "dispatch_due_at": at}
        Stage.objects.bulk_create(
            Stage(workflow_id=name, name=f"stage_{step}", position=step, step=step, **queued)
            for name in names
            for step in range(4)
        )
        collect_statistics()
        yield
        transaction.set_rollback(True)


@pytest.mark.usefixtures("late_run")
@pytest.mark.parametrize("name", SEARCHES)
def test_stages_of_a_wide_run_are_found_by_an_index_in_order(name: str) -> None:
    search, index = SEARCHES[name]
    (statement,) = statements_of(search)
    plan = explain(statement)
    assert index in plan, plan
    if index.startswith("orchestration_stage"):
        assert "TEMP B-TREE FOR ORDER" not in plan
        assert '"Sort"' not in plan
