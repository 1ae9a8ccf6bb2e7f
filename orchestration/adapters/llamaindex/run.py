"""Run a LlamaIndex workflow, from its start event to its result, and report its steps."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel
from workflows import Workflow
from workflows.errors import WorkflowConfigurationError, WorkflowValidationError
from workflows.events import (
    Event,
    InternalDispatchEvent,
    StartEvent,
    StepState,
    StepStateChanged,
    StopEvent,
    WorkflowFailedEvent,
)
from workflows.handler import WorkflowHandler

from orchestration.adapters.llamaindex.steps import StepTracker
from orchestration.limits import engine_limits
from orchestration.sdk import Cancelled, Context, InvalidDefinition, StageFailed, error_for_clients

_POLL_SECONDS: Final = 0.1


def make_flow(returned: Any, *, name: str) -> Workflow:
    """Return the LlamaIndex workflow that the function of the workflow `name` returned; a class is instantiated.

    Raises:
        InvalidDefinition: if it returned something else.
    """
    if isinstance(returned, type) and issubclass(returned, Workflow):
        return returned(timeout=None)
    if isinstance(returned, Workflow):
        return returned
    raise InvalidDefinition(f"Workflow {name} returned {returned!r}: expected a LlamaIndex Workflow, or its class")


def validate_flow(flow: Workflow, inputs: Mapping[str, Any], *, name: str) -> None:
    """Check what can be checked before the run.

    Raises:
        InvalidDefinition: if the library rejects the workflow or its start event, or it waits for human input.
    """
    try:
        needs_human_input = flow.validate()
        flow.start_event_class(**inputs)
    except (WorkflowValidationError, WorkflowConfigurationError, ValueError) as error:
        raise InvalidDefinition(f"Workflow {name} cannot run: {error}") from error
    if needs_human_input:
        raise InvalidDefinition(f"Workflow {name} waits for human input, which is not supported")


class FlowRun:
    """One attempt to run a workflow.

    Args:
        flow: The workflow.
        steps: The names of its steps.
        ctx: The context of the stage that runs it.
    """

    def __init__(self, flow: Workflow, steps: list[str], ctx: Context) -> None:
        self._flow = flow
        self._ctx = ctx
        self._tracker = StepTracker(steps)

    def run(self, inputs: Mapping[str, Any]) -> Any:
        """Return the workflow's result; a pydantic model as JSON.

        Raises:
            StageFailed: if a step fails, or the workflow exceeds its time limit.
            Cancelled: if the run has ended.
        """
        start = self._flow.start_event_class(**inputs)
        try:
            result = self._ctx.run_coroutine(self._run_flow(start))
        except Exception as error:
            if self._ctx.cancelled():
                raise Cancelled from error
            self._complete_steps()
            details = "".join(traceback.format_exception(error))
            raise StageFailed(error_for_clients(error, engine_limits()), details=details) from error
        self._complete_steps()
        return result.model_dump(mode="json") if isinstance(result, BaseModel) else result

    async def _run_flow(self, start: StartEvent) -> Any:
        """Run the workflow and report its events until it has ended."""
        handler = self._flow.run(start_event=start)
        cancelling = asyncio.create_task(self._cancel_with_stage(handler))
        try:
            async for event in handler.stream_events(expose_internal=True):
                self._report(event)
            return await handler
        finally:
            cancelling.cancel()

    async def _cancel_with_stage(self, handler: WorkflowHandler) -> None:
        # Poll, because another process sets the flag in shared memory, which cannot wake this event loop. If a step
        # blocks the loop, the supervisor kills this process.
        while not self._ctx.cancelled():  # noqa: ASYNC110
            await asyncio.sleep(_POLL_SECONDS)
        await handler.cancel_run()

    def _report(self, event: Event) -> None:
        if isinstance(event, StepStateChanged):
            self._report_step(event)
        elif isinstance(event, WorkflowFailedEvent):
            self._ctx.hosted_failed(event.step_name, error_for_clients(event.exception, engine_limits()))
        elif not isinstance(event, InternalDispatchEvent | StopEvent):
            self._ctx.log(repr(event))

    def _report_step(self, event: StepStateChanged) -> None:
        if event.step_state is StepState.RUNNING:
            if self._tracker.on_start(event.name):
                self._ctx.hosted_started(event.name)
        elif event.step_state is StepState.NOT_RUNNING:
            # The library reports None for an attempt that raised, and `NoneType` for an attempt that returned None.
            failed = event.output_event_name is None
            returned = _class_name(event.output_event_name or "NoneType")
            self._tracker.on_end(event.name, event=None if returned == "NoneType" else returned, failed=failed)
        else:
            return
        self._ctx.progress(self._tracker.progress, ", ".join(self._tracker.running))

    def _complete_steps(self) -> None:
        """Report that the returned steps are completed: none of them can run again now."""
        for step in self._tracker.returned:
            output, duration_ms = self._tracker.output(step), self._tracker.duration_ms(step)
            self._ctx.hosted_completed(step, output, duration_ms=duration_ms)


def _class_name(text: str) -> str:
    """Return `Name` for `<class 'package.module.Name'>`, as the library writes it."""
    return text.removeprefix("<class '").removesuffix("'>").rpartition(".")[2]
