"""An adapter of a user's application: what the engine does itself of its stages, and what it leaves to the adapter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from orchestration.models import Stage
from orchestration.sdk import (
    Adapter,
    Context,
    Definition,
    Plan,
    StagePlan,
    ask,
    each,
    plan_stages,
    stage,
    when,
    workflow,
)
from orchestration.testing import run_inline


class Crew:
    """Returns what it is asked to run."""

    def plan(self, definition: Definition, *, prompt: str, params: Mapping[str, Any]) -> Plan:
        """Return the stages that the workflow's function returned."""
        return Plan(
            name=definition.name, adapter=definition.adapter, stages=plan_stages(definition.steps(prompt, params))
        )

    def run(self, stage: StagePlan, ctx: Context, inputs: dict[str, Any]) -> Any:
        """Return the name of the function of a stage, and its arguments."""
        return [stage.call.partition(":")[2], *stage.arguments.positional]


adapter: Adapter = Crew()


@stage
def plan(ctx: Context, inputs: dict[str, Any]) -> None:
    """Is not called: the adapter runs something else."""


@stage
def research(ctx: Context, inputs: dict[str, Any]) -> None:
    """Is not called."""


@stage
def publish(ctx: Context, inputs: dict[str, Any]) -> None:
    """Is not called."""


def is_public(ctx: Context, inputs: dict[str, Any]) -> bool:
    """Return what the run is given."""
    return bool(inputs["public"])


@workflow(adapter="crew")
def crew_of_agents(prompt: str, *, public: bool) -> Any:
    return [plan, each(research, of=plan), ask("release", str), when(is_public, publish)]


@pytest.mark.django_db
@pytest.mark.parametrize(("public", "status"), [(True, "completed"), (False, "skipped")])
def test_conditions_waits_and_items_need_nothing_of_an_adapter(settings: Any, public: bool, status: str) -> None:
    settings.MAHAVISHNU_ADAPTERS = {**settings.MAHAVISHNU_ADAPTERS, "crew": f"{__name__}.Crew"}
    result = run_inline(crew_of_agents, public=public, answers={"release": "yes"})
    assert result.status == "completed"
    assert result.stages["plan"].output == ["plan"]
    assert Stage.objects.values_list("result__output", flat=True).get(name="research[0]") == ["research", "plan"]
    assert (result.stages["release"].output, result.stages["publish"].status) == ("yes", status)
