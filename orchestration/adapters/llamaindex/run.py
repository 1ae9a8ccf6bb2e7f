"""Run a LlamaIndex workflow, from its start event to its result, and report its steps.

When it only waits for a person, its context is stored as a step of the stage, and the stage waits for the answer
without a slot. The attempt after that continues with the stored context, in any process.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel
from workflows import Context as FlowContext
from workflows import Workflow
from workflows.errors import WorkflowConfigurationError, WorkflowValidationError
from workflows.events import (
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    InternalDispatchEvent,
    StartEvent,
    StepState,
    StepStateChanged,
    StopEvent,
    WorkflowFailedEvent,
    WorkflowIdleEvent,
)
from workflows.handler import WorkflowHandler

from orchestration.adapters.llamaindex.questions import Question, Responses, check_questions, form_of
from orchestration.adapters.llamaindex.steps import StepTracker
from orchestration.limits import engine_limits
from orchestration.sdk import Cancelled, Context, InvalidDefinition, StageFailed, error_for_clients
from orchestration.secret_mask import contains_secret
from orchestration.text import text_of

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
        InvalidDefinition: if the library rejects the workflow or its start event, or another process could not check
            the answers of people.
    """
    try:
        flow.validate()
        flow.start_event_class(**inputs)
    except (WorkflowValidationError, WorkflowConfigurationError, ValueError) as error:
        raise InvalidDefinition(f"Workflow {name} cannot run: {error}") from error
    check_questions(flow, name=name)


@dataclass(frozen=True, slots=True)
class _Idle:
    """A workflow that can continue only with an answer.

    Attributes:
        context: Its context, as the library stores it.
        asked: What it has asked in this attempt.
    """

    context: dict[str, Any]
    asked: list[InputRequiredEvent]


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
        self._responses = Responses(flow)

    def run(self, inputs: Mapping[str, Any]) -> Any:
        """Return the workflow's result; a pydantic model as JSON.

        Raises:
            StageFailed: if a step fails, or the workflow exceeds its time limit.
            Cancelled: if the run has ended.
        """
        number, pause = self._last_pause()
        if pause is None:
            result = self._until_idle(self._flow.start_event_class(**inputs))
        else:
            self._tracker.restore(pause["steps"])
            for step in pause["steps"]:
                self._ctx.hosted_started(step)  # A retry of the run has reset it.
            result = self._answered(number, pause)
        while isinstance(result, _Idle):
            number += 1
            pause = self._stored(number, result, pause)
            result = self._answered(number, pause)
        self._complete_steps()
        return result.model_dump(mode="json") if isinstance(result, BaseModel) else result

    def _last_pause(self) -> tuple[int, dict[str, Any] | None]:
        """Return the number of the last question, and what was stored with it; 0 and None if there is none."""
        number, last = 0, None
        while (stored := self._find_pause(number + 1)) is not None:
            number, last = number + 1, stored
        return number, last

    def _find_pause(self, number: int) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self._ctx.step(_question_name(number), _raise_not_stored)
        except _NotStored:
            return None
        return found

    def _stored(self, number: int, idle: _Idle, before: Mapping[str, Any] | None) -> dict[str, Any]:
        """Store a workflow that waits for the answer to a question, and return what was stored."""
        awaited = self._responses.add_awaited(idle.context)
        earlier = [] if before is None else before["questions"][1:]
        questions = [*earlier, *(each.to_json() for each in self._responses.questions(idle.asked, awaited))]
        if not questions:
            raise StageFailed("The workflow waits for an event, and has asked no person for it", may_retry=False)
        if contains_secret(idle.context):
            # What is stored is masked: the steps after the answer would have *** in place of the secret.
            raise StageFailed(
                "The context of the workflow contains a secret, and cannot be stored while it waits for an answer. "
                "Expected it in an attribute of the Workflow, which its function sets, and not in events or ctx.store",
                may_retry=False,
            )
        pause = {"context": idle.context, "questions": questions, "steps": self._tracker.to_json()}
        stored: dict[str, Any] = self._ctx.step(_question_name(number), lambda: pause)
        return stored

    def _answered(self, number: int, pause: Mapping[str, Any]) -> Any:
        """Ask the question of a stored workflow, and continue with the answer; end the attempt if there is none yet."""
        self._responses.add_awaited(pause["context"])
        question = Question.from_json(pause["questions"][0])
        response = self._responses.named(question.response)
        answer = self._ctx.ask(_question_name(number), form_of(response), title=question.title)
        event = answer if isinstance(answer, HumanResponseEvent) else response(**{"response": answer})
        return self._until_idle(event, pause["context"])

    def _until_idle(self, event: Event, context: dict[str, Any] | None = None) -> Any:
        """Run the workflow until it has ended, and return its result, or until it can continue only with an answer."""
        try:
            return self._ctx.run_coroutine(self._run_flow(event, context))
        except StageFailed:
            raise
        except Exception as error:
            if self._ctx.cancelled():
                raise Cancelled from error
            self._complete_steps()
            details = "".join(traceback.format_exception(error))
            raise StageFailed(error_for_clients(error, engine_limits()), details=details) from error

    async def _run_flow(self, event: Event, context: dict[str, Any] | None) -> Any:
        """Run the workflow from its start event, or continue it with an answer, and report its events."""
        if isinstance(event, StartEvent):
            handler = self._flow.run(start_event=event)
        else:
            handler = self._flow.run(ctx=FlowContext.from_dict(self._flow, context or {}))
            handler.ctx.send_event(event)
        cancelling = asyncio.create_task(self._cancel_with_stage(handler))
        asked: list[InputRequiredEvent] = []
        try:
            async for written in handler.stream_events(expose_internal=True):
                if isinstance(written, WorkflowIdleEvent):
                    return await _idle(handler, asked)
                if isinstance(written, InputRequiredEvent):
                    asked.append(written)
                else:
                    self._report(written)
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


async def _idle(handler: WorkflowHandler, asked: list[InputRequiredEvent]) -> _Idle:
    """Return the state of a workflow that can continue only with an answer, and end its run in this process.

    Raises:
        StageFailed: if its context is not JSON.
    """
    try:
        context = handler.ctx.to_dict()
    except Exception as error:
        raise StageFailed(
            f"The context of the workflow cannot be stored while it waits for an answer: {text_of(error)}",
            may_retry=False,
        ) from error
    finally:
        await handler.cancel_run()
    return _Idle(context, asked)


class _NotStored(Exception):
    """The workflow has not asked this question yet."""


def _raise_not_stored() -> None:
    raise _NotStored


def _question_name(number: int) -> str:
    """Return the name under which a question is answered; its step has the same."""
    return f"question-{number}"


def _class_name(text: str) -> str:
    """Return `Name` for `<class 'package.module.Name'>`, as the library writes it."""
    return text.removeprefix("<class '").removesuffix("'>").rpartition(".")[2]
