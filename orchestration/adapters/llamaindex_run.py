"""One LlamaIndex workflow from its start event to its result, and what is told of it meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from orchestration.adapters.interface import StageFailed
from orchestration.adapters.llamaindex_steps import StepGraph, StepsSeen
from orchestration.engine.context import Cancelled, Context
from orchestration.engine.limits import engine_limits
from orchestration.engine.outcome import error_for_clients

if TYPE_CHECKING:
    from workflows import Workflow
    from workflows.events import Event, StepStateChanged

_LOOK_SECONDS: Final = 0.1
_LAST_WORDS_SECONDS: Final = 5.0


class FlowRun:
    """One attempt at running a workflow: on an event loop in a thread, while this thread tells what it does.

    Only this thread has the database: on an event loop Django refuses it.
    """

    def __init__(self, flow: Workflow, graph: StepGraph, ctx: Context) -> None:
        self._flow = flow
        self._graph = graph
        self._ctx = ctx
        self._seen = StepsSeen(graph)
        self._happened: queue.SimpleQueue[Event | _End] = queue.SimpleQueue()
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, inputs: Mapping[str, Any]) -> Any:
        """Return the workflow's result, as JSON if it is a model of its own.

        Raises:
            StageFailed: a step failed, or the workflow took longer than it allows itself.
            Cancelled
        """
        start = self._flow.start_event_class(**inputs)
        thread = threading.Thread(target=lambda: asyncio.run(self._main(start)), name="llamaindex", daemon=True)
        thread.start()
        try:
            end = self._tell_until_end()
        finally:
            self._ask_to_stop()
            thread.join(_LAST_WORDS_SECONDS)
        if self._ctx.cancelled():
            raise Cancelled
        if end.error is not None:
            raise self._failure(end)
        for step in self._seen.over_at_the_end():
            self._ctx.hosted_completed(step, self._seen.outcome(step))
        return _plain(end.result)

    async def _main(self, start: Any) -> None:
        """Run the workflow, and hand on what happens. Whatever it raises is handed on as well."""
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        end = _End()
        try:
            handler = self._flow.run(start_event=start)
            stopping = asyncio.create_task(self._cancel_when_stopped(handler))
            async for event in handler.stream_events(expose_internal=True):
                self._happened.put(event)
            end.result = await handler
            stopping.cancel()
        except BaseException as error:
            end.error = error
        self._happened.put(end)

    async def _cancel_when_stopped(self, handler: Any) -> None:
        assert self._stop is not None
        await self._stop.wait()
        await handler.cancel_run()

    def _ask_to_stop(self) -> None:
        if self._loop is not None and self._stop is not None:
            with contextlib.suppress(RuntimeError):  # The loop has ended already.
                self._loop.call_soon_threadsafe(self._stop.set)

    def _tell_until_end(self) -> _End:
        while True:
            try:
                happened = self._happened.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                happened = None
            if self._ctx.cancelled():
                # If a step holds up the loop, the keeper ends this process.
                self._ask_to_stop()
            if isinstance(happened, _End):
                return happened
            if happened is not None:
                self._tell(happened)

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
            for over in self._seen.newly_over():
                self._ctx.hosted_completed(over, self._seen.outcome(over))
            self._ctx.progress(len(self._seen.over) / len(self._graph.steps), ", ".join(self._seen.running))
        elif event.step_state is StepState.NOT_RUNNING:
            # The library says None of an attempt that failed, and the name of a class of one that returned None.
            output = None if event.output_event_name is None else _class_name(event.output_event_name)
            returned = None if output == "NoneType" else output
            self._seen.ended(step, output=returned, is_tried_again=event.output_event_name is None)

    def _failure(self, end: _End) -> StageFailed:
        assert end.error is not None
        return StageFailed(
            error_for_clients(end.error, engine_limits()), details="".join(traceback.format_exception(end.error))
        )


class _End:
    """How a workflow ended: with a result or an error."""

    def __init__(self) -> None:
        self.result: Any = None
        self.error: BaseException | None = None


def _class_name(text: str) -> str:
    """`<class 'package.module.Name'>`, as the library writes it, is `Name`."""
    return text.removeprefix("<class '").removesuffix("'>").rpartition(".")[2]


def _plain(result: Any) -> Any:
    """A pydantic model, such as a stop event of the workflow's own, as JSON; anything else as it is."""
    from pydantic import BaseModel

    return result.model_dump(mode="json") if isinstance(result, BaseModel) else result
