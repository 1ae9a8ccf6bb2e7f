"""The adapter `llamaindex`: runs a workflow of `llama-index-workflows`, whose steps are shown as stages.

    @workflow(adapter="llamaindex")
    def summary(prompt, *, path):
        return SummaryFlow(llm=MyModel(), timeout=300)

The function returns a LlamaIndex `Workflow`, or its class. It is called where the run is started, to see which steps
there are, and again in the worker that runs it. The prompt and the params are the fields of its start event.

A LlamaIndex workflow decides which step comes next while it runs, in one process. So one stage, named after the class,
is queued for a worker and runs it; each step is a stage beside that one, which begins and ends as the step does. Events
that steps write to the stream are logged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from orchestration.adapters.llamaindex.graph import graph_of
from orchestration.adapters.llamaindex.run import FlowRun
from orchestration.adapters.python import find_function
from orchestration.plan import InvalidDefinition, Plan, StagePlan
from orchestration.sdk.adapter import MissingDependency, StageFailed
from orchestration.sdk.context import Context
from orchestration.sdk.workflow import WorkflowDefinition

if TYPE_CHECKING:
    from workflows import Workflow

PACKAGE: Final = "llama-index-workflows"


class LlamaIndexAdapter:
    """Runs LlamaIndex workflows."""

    def plan(self, definition: WorkflowDefinition, *, prompt: str, params: Mapping[str, Any]) -> Plan:
        flow = _checked(definition, definition.steps, prompt, params)
        graph = graph_of(flow)
        host = StagePlan(
            name=type(flow).__name__,
            step=0,
            call=f"{definition.function.__module__}:{definition.function.__qualname__}",
            options={"steps": list(graph.steps)},
        )
        return Plan(
            name=definition.name,
            adapter=definition.adapter,
            stages=(host, *(StagePlan(name=step, step=0, hosted=True) for step in graph.steps)),
            timeout_seconds=definition.timeout_seconds,
        )

    def run(self, stage: StagePlan, ctx: Context, inputs: dict[str, Any]) -> Any:
        _require_package()
        function = find_function(stage.call)
        params = {name: value for name, value in inputs.items() if name != "prompt"}
        flow = _instance(function(inputs["prompt"], **params))
        graph = graph_of(flow)
        if list(graph.steps) != list(stage.options["steps"]):
            raise StageFailed(
                f"The steps of {stage.name} are {', '.join(graph.steps)} on this worker; the run was started with "
                f"{', '.join(stage.options['steps'])}: its code differs"
            )
        return FlowRun(flow, graph, ctx).run(inputs)


def _require_package() -> None:
    try:
        import workflows.events  # noqa: F401
    except ImportError as error:
        raise MissingDependency("llamaindex", PACKAGE) from error


def _checked(definition: WorkflowDefinition, make: Any, prompt: str, params: Mapping[str, Any]) -> Workflow:
    """Make the workflow and check what can be checked before it runs.

    Raises:
        InvalidDefinition, MissingDependency
    """
    _require_package()
    from workflows.errors import WorkflowConfigurationError, WorkflowValidationError

    flow = _instance(make(prompt, params), definition)
    try:
        asks_a_person = flow.validate()
        flow.start_event_class(**{**params, "prompt": prompt})
    except (WorkflowValidationError, WorkflowConfigurationError, ValueError) as error:
        raise InvalidDefinition(f"The workflow {definition.name} cannot be run: {error}") from error
    if asks_a_person:
        raise InvalidDefinition(
            f"The workflow {definition.name} waits for a person's answer: nobody could give it here"
        )
    return flow


def _instance(made: Any, definition: WorkflowDefinition | None = None) -> Workflow:
    from workflows import Workflow

    if isinstance(made, type) and issubclass(made, Workflow):
        return made(timeout=None)
    if isinstance(made, Workflow):
        return made
    name = "It" if definition is None else f"The workflow {definition.name}"
    raise InvalidDefinition(f"{name} returned {made!r}: expected a LlamaIndex Workflow, or its class")
