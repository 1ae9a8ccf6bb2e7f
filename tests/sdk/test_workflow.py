"""Workflows as they are written down, and what is refused."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestration.plan import Plan, StagePlan
from orchestration.sdk import InvalidDefinition, Retry, Run, UnknownWorkflow, find_definition, parallel, stage
from orchestration.sdk.stage import in_steps
from orchestration.services import WorkflowNotFound
from orchestration.worker.bootstrap import worker_name
from orchestration.worker.slot_table import Running, SlotTable


@stage
def one(ctx: Any, inputs: Any) -> None: ...


@stage(name="zwei", retries=Retry(max_attempts=3, backoff_seconds=2.0), timeout_seconds=60)
def two(ctx: Any, inputs: Any) -> None: ...


def test_stages_know_their_step_and_come_back_from_storage_as_they_were() -> None:
    here = __name__
    planned = in_steps([one, parallel(two, one), two])
    assert planned == (
        StagePlan(name="one", step=0, call=f"{here}:one"),
        StagePlan(
            name="zwei",
            step=1,
            call=f"{here}:two",
            retries=Retry(max_attempts=3, backoff_seconds=2.0),
            timeout_seconds=60,
        ),
        StagePlan(name="one", step=1, call=f"{here}:one"),
        StagePlan(
            name="zwei",
            step=2,
            call=f"{here}:two",
            retries=Retry(max_attempts=3, backoff_seconds=2.0),
            timeout_seconds=60,
        ),
    )
    assert tuple(StagePlan.from_json(each.to_json()) for each in planned) == planned


def test_what_another_release_stored_is_read_with_what_is_known_here() -> None:
    stored = {"name": "one", "step": 2, "retries": {"max_attempts": 2}, "colour": "blue"}
    assert StagePlan.from_json(stored) == StagePlan(name="one", step=2, retries=Retry(max_attempts=2))


def local_stage() -> Any:
    @stage
    def inner(ctx: Any, inputs: Any) -> None: ...

    return inner


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "no attempt": (lambda: Retry(max_attempts=0), "max_attempts=0: expected a whole number from 1 to 1000"),
    "half an attempt": (lambda: Retry(max_attempts=1.5), "max_attempts=1.5: expected"),  # type: ignore[arg-type]
    "a negative wait": (lambda: Retry(backoff_seconds=-1), "backoff_seconds=-1: expected a number of seconds from 0"),
    "no time": (lambda: stage(timeout_seconds=0)(print), "timeout_seconds=0: expected a number of seconds above 0"),
    "a stage nobody finds": (local_stage, "is defined inside a function, where no worker can find it"),
    "nothing side by side": (lambda: parallel(), r"parallel\(\) of nothing"),
    "a name twice": (lambda: Plan(name="w", adapter="python", stages=in_steps([one, one])), "several stages named one"),
    "no stage": (lambda: Plan(name="w", adapter="python", stages=()), "The workflow w has no stage"),
    "a function": (lambda: in_steps([len]), "Step 1 is <built-in function len>: expected a stage"),  # type: ignore[list-item]
    "no list": (lambda: in_steps(one), "expected a list of stages"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize(("define", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_run_is_refused_when_it_is_written(define: Callable[[], Any], reason: str) -> None:
    with pytest.raises(InvalidDefinition, match=reason):
        define()


def test_thirty_thousand_stages_are_planned_while_one_waits() -> None:
    stages = tuple(StagePlan(name=f"stage {number}", step=0) for number in range(30_000))
    began = time.process_time()
    assert len(Plan(name="w", adapter="python", stages=stages).stages) == 30_000
    assert time.process_time() - began < 5, "each name is compared with every other"


def test_a_workflow_that_nobody_defined_is_not_found() -> None:
    with pytest.raises(UnknownWorkflow, match="There is no workflow named no_such; defined are: "):
        find_definition("no_such")


@pytest.mark.django_db
@pytest.mark.parametrize("ask", [Run.wait, Run.cancel, Run.retry, lambda run: run.workflow])
def test_a_run_that_nobody_started_is_not_found(ask: Callable[[Run], Any]) -> None:
    with pytest.raises(WorkflowNotFound, match=r"^There is no workflow wf_nowhere\.$"):
        ask(Run("wf_nowhere"))


@pytest.mark.parametrize(
    ("attempt", "jitter", "seconds"), [(1, 0, 2), (2, 0, 4), (3, 0, 8), (5, 0, 10), (3, 1, 4), (900, 0.5, 7.5)]
)
def test_a_wait_doubles_up_to_its_bound_and_loses_up_to_half(attempt: int, jitter: float, seconds: float) -> None:
    retry = Retry(max_attempts=1000, backoff_seconds=2, max_backoff_seconds=10)
    assert retry.wait_seconds(attempt, jitter=jitter) == seconds


@pytest.mark.parametrize(
    ("hostname", "name"),
    [("celery@box", "local-box"), ("second@box.example", "local-second-box.example"), ("celery@böx", "local-b-x")],
)
def test_workers_are_named_after_their_pool_and_their_host(hostname: str, name: str) -> None:
    assert worker_name(hostname, pool_id="local") == name


def test_a_slot_is_seen_alike_by_all_who_share_the_table(tmp_path: Path) -> None:
    table = SlotTable.create(tmp_path / "slots")
    table.size = 2
    child, keeper = SlotTable.open(table.path).slot(1), SlotTable.open(table.path).slot(1)
    assert (keeper.pid, keeper.running, keeper.worker_id) == (0, None, "")
    keeper.worker_id = "local-box-2"
    child.pid = 4711
    child.running = running = Running(7, 3, 123456789, 1500)
    assert (table.size, keeper.pid, keeper.running, child.worker_id) == (2, 4711, running, "local-box-2")
    assert table.slot(0).running is None
    keeper.request_cancel(running)
    assert (child.is_cancelled(7, 3), child.is_cancelled(7, 4), child.is_cancelled(8, 3)) == (True, False, False)
    child.running = None
    assert keeper.running is None
