"""The adapter `llamaindex`: runs workflows of `llama-index-workflows`, and shows their steps as stages.

    @workflow(adapter="llamaindex")
    def summary(prompt, *, path):
        return SummaryFlow(llm=MyModel(), timeout=300)

The function returns a LlamaIndex `Workflow`, or its class. It is called where the run is started, to read the steps,
and again in the worker that runs it. The prompt and the parameters are the fields of its start event.

A LlamaIndex workflow runs in one process, and chooses the next step at run time. So one stage, named after the class,
is queued for a worker and runs the whole workflow. Each step is an additional, hosted stage. Events that steps write to
the stream are logged.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final

from orchestration.sdk import (
    Context,
    Definition,
    InvalidDefinition,
    InvalidParameter,
    MissingDependency,
    MissingRequirement,
    Plan,
    StagePlan,
    WorkflowDefinition,
)
from orchestration.sdk.functions import find_function, find_missing_function

PACKAGE: Final = "llama-index-workflows"


class LlamaIndexAdapter:
    """Runs LlamaIndex workflows."""

    def plan(self, definition: Definition, *, prompt: str, params: Mapping[str, Any]) -> Plan:
        """Return the stage that runs the workflow, and one hosted stage for each of its steps."""
        _require_package()
        from orchestration.adapters.llamaindex.run import make_flow, validate_flow
        from orchestration.adapters.llamaindex.steps import step_names

        flow = make_flow(definition.steps(prompt, params), name=definition.name)
        validate_flow(flow, {**params, "prompt": prompt}, name=definition.name)
        steps = step_names(flow)
        host = StagePlan(
            name=type(flow).__name__,
            step=0,
            call=f"{definition.function.__module__}:{definition.function.__qualname__}",
            options={"steps": steps},
        )
        return Plan(
            name=definition.name,
            adapter=definition.adapter,
            stages=(host, *(StagePlan(name=step, step=0, hosted=True) for step in steps)),
            timeout_seconds=definition.timeout_seconds,
        )

    def find_missing(self, stage: StagePlan, *, may_block: bool) -> str | None:
        """Check whether this worker has the package of LlamaIndex and the workflow's function."""
        if not may_block and sys.modules.get("workflows.events") is None:
            return None
        _require_package()
        return find_missing_function(stage.call, may_block=may_block)

    def run(self, stage: StagePlan, ctx: Context, inputs: dict[str, Any]) -> Any:
        """Run the whole workflow and return its result."""
        _require_package()
        from orchestration.adapters.llamaindex.run import FlowRun, make_flow
        from orchestration.adapters.llamaindex.steps import step_names

        found = find_function(stage.call)
        prompt, params = inputs["prompt"], {name: value for name, value in inputs.items() if name != "prompt"}
        planned = list(stage.options["steps"])
        needs = f"{stage.call} with the steps {', '.join(planned)}"
        try:
            # The name of the function may refer to the function itself, not to what `@workflow` made of it.
            returned = found.steps(prompt, params) if isinstance(found, WorkflowDefinition) else found(prompt, **params)
            flow = make_flow(returned, name=stage.name)
        except (InvalidDefinition, InvalidParameter) as error:
            raise MissingRequirement(needs, str(error)) from error
        steps = step_names(flow)
        if steps != planned:
            raise MissingRequirement(needs, f"its steps are {', '.join(steps)}")
        return FlowRun(flow, steps, ctx).run(inputs)


def _require_package() -> None:
    """Check that the optional package is installed; the imports after this call need it.

    Raises:
        MissingDependency: if it is not.
    """
    try:
        import workflows.events  # noqa: F401
    except ImportError as error:
        raise MissingDependency("llamaindex", PACKAGE) from error
