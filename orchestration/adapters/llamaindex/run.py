"""One LlamaIndex workflow from its start event to its result, and what is told of it meanwhile."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from orchestration.adapters.llamaindex.steps import StepGraph, StepTracker
from orchestration.limits import engine_limits
from orchestration.sdk.adapter import StageFailed
from orchestration.sdk.context import Cancelled, Context
from orchestration.sdk.outcome import error_for_clients

if TYPE_CHECKING:
    from workflows import Workflow
    from workflows.events import Event, StartEvent, StepStateChanged
    from workflows.handler import WorkflowHandler

_LOOK_SECONDS: Final = 0.1


class FlowRun:
    """One attempt at running a workflow."""

    def __init__(self, flow: Workflow, graph: StepGraph, ctx: Context) -> None:
        self._flow = flow
        self._graph = graph
        self._ctx = ctx
        self._seen = StepTracker(graph)

    def run(self, inputs: Mapping[str, Any]) -> Any:
        """Return the workflow's result, as JSON if it is a model of its own.

        Raises:
            StageFailed: a step failed, or the workflow took longer than it allows itself.
            Cancelled
        """
        start = self._flow.start_event_class(**inputs)
        try:
            result = self._ctx.home.run(self._to_its_end(start))
        except Exception as error:
            if self._ctx.cancelled():
                raise Cancelled from error
            details = "".join(traceback.format_exception(error))
            raise StageFailed(error_for_clients(error, engine_limits()), details=details) from error
        for step in self._seen.finished_at_end():
            self._ctx.hosted_completed(step, self._seen.outcome(step))
        return _plain(result)

    async def _to_its_end(self, start: StartEvent) -> Any:
        """Run the workflow and tell what happens, until it has ended."""
        handler = self._flow.run(start_event=start)
        stopping = asyncio.create_task(self._cancel_when_unwanted(handler))
        try:
            async for event in handler.stream_events(expose_internal=True):
                self._tell(event)
            return await handler
        finally:
            stopping.cancel()

    async def _cancel_when_unwanted(self, handler: WorkflowHandler) -> None:
        # Nothing wakes a loop up: another process says it, in shared memory. If a step holds up the loop, nobody looks
        # here, and the keeper ends this process.
        while not self._ctx.cancelled():  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_SECONDS)
        await handler.cancel_run()

    def _tell(self, event: Event) -> None:
        from workflows.events import InternalDispatchEvent, StepStateChanged, StopEvent, WorkflowFailedEvent

        if isinstance(event, StepStateChanged):
            self._tell_step(event)
        elif isinstance(event, WorkflowFailedEvent):
            self._ctx.hosted_failed(event.step_name, error_for_clients(event.exception, engine_limits()))
        elif not isinstance(event, InternalDispatchEvent | StopEvent):
            self._ctx.log(repr(event))

    def _tell_step(self, event: StepStateChanged) -> None:
        from workflows.events import StepState

        step = event.name
        if event.step_state is StepState.RUNNING:
            if self._seen.began(step):
                self._ctx.hosted_started(step)
            for over in self._seen.newly_finished():
                self._ctx.hosted_completed(over, self._seen.outcome(over))
            self._ctx.progress(len(self._seen.over) / len(self._graph.steps), ", ".join(self._seen.running))
        elif event.step_state is StepState.NOT_RUNNING:
            # The library says None of an attempt that failed, and the name of a class of one that returned None.
            output = None if event.output_event_name is None else _class_name(event.output_event_name)
            returned = None if output == "NoneType" else output
            self._seen.ended(step, output=returned, is_tried_again=event.output_event_name is None)


def _class_name(text: str) -> str:
    """`<class 'package.module.Name'>`, as the library writes it, is `Name`."""
    return text.removeprefix("<class '").removesuffix("'>").rpartition(".")[2]


def _plain(result: Any) -> Any:
    """A pydantic model, such as a stop event of the workflow's own, as JSON; anything else as it is."""
    from pydantic import BaseModel

    return result.model_dump(mode="json") if isinstance(result, BaseModel) else result
