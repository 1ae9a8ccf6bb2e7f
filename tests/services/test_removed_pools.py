"""Rows for a pool that another process removes after it was found."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestration import services
from orchestration.models import Stage, Workflow
from orchestration.plan import Plan, StagePlan
from orchestration.services import pool_moves, runs

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


def start(*, stages: int = 1) -> None:
    plan = Plan(
        name="removed",
        adapter="python",
        stages=tuple(StagePlan(name=f"stage_{number}", step=0) for number in range(stages)),
    )
    services.start_run(plan, prompt="", params={}, pool_id="removed", workflow_id="wf")


def move() -> None:
    services.reassign_workflow(workflow_id="moved", to_pool_id="removed")


@pytest.mark.parametrize(
    ("change", "module", "check"),
    [
        (start, runs, "ensure_pool"),
        (lambda: start(stages=9), runs, "ensure_pool"),
        (move, pool_moves, "check_pool_accepts_workflows"),
    ],
    ids=["start", "start_wide", "move"],
)
def test_row_for_a_pool_that_is_just_removed_is_rejected(
    change: Callable[[], None], module: object, check: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    services.create_pool(pool_id="removed")
    services.create_pool(pool_id="pool")
    services.create_workflow(adapter="python", prompt="", stages=["one"], pool_id="pool", workflow_id="moved")
    find = getattr(module, check)

    def find_and_remove(*arguments: object, **options: object) -> object:
        found = find(*arguments, **options)
        services.remove_pool(pool_id="removed")
        return found

    monkeypatch.setattr(module, check, find_and_remove)
    with pytest.raises(services.PoolNotFound, match="Pool removed not found"):
        change()
    assert Workflow.objects.get().pool_id == "pool"
    assert Stage.objects.get().pool_id == "pool"
