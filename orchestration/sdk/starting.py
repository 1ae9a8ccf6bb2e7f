"""From a definition to a stored run: its adapter plans it, and a service stores the plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from orchestration import services
from orchestration.adapters import adapter_named

if TYPE_CHECKING:
    from orchestration.sdk.workflow import WorkflowDefinition


def start(
    definition: WorkflowDefinition,
    *,
    prompt: str,
    params: Mapping[str, Any],
    key: str | None,
    pool: str | None,
    workflow_id: str | None,
) -> str:
    """Plan and store a run, and return its id.

    Raises:
        UnknownAdapter, InvalidDefinition, MissingDependency, orchestration.services.Refusal
    """
    plan = adapter_named(definition.adapter).plan(definition, prompt=prompt, params=params)
    workflow = services.start_run(
        plan, prompt=prompt, params=params, pool_id=pool or definition.pool, key=key, workflow_id=workflow_id
    )
    return workflow.pk
