"""What a LlamaIndex workflow asks people: events that require input, and the events that answer them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from workflows import Workflow
from workflows.context.utils import import_module_from_qualified_name
from workflows.events import HumanResponseEvent, InputRequiredEvent

from orchestration.sdk import InvalidDefinition, StageFailed
from orchestration.sdk.form import form_reference, form_schema

TITLE_FIELDS: Final = ("prefix", "message", "msg", "question", "prompt", "title")
"""The fields of an event that may contain the question. The first one that is a text is the title."""

_Response = type[HumanResponseEvent]


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked.

    Attributes:
        title: The question; may be empty.
        response: The class of the event that answers it, as `package.module.Class`.
    """

    title: str
    response: str

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Question:
        """Return a question from what `to_json` returned."""
        return cls(**stored)

    def to_json(self) -> dict[str, Any]:
        """Return the question as JSON."""
        return asdict(self)


class Responses:
    """The events with which people may answer a workflow: the responses that its steps accept.

    Args:
        flow: The workflow.
    """

    def __init__(self, flow: Workflow) -> None:
        known = [event for event in flow.events if issubclass(event, HumanResponseEvent)]
        self._classes: dict[str, _Response] = {_name(event): event for event in known}

    def check(self) -> None:
        """Check that another process finds the classes, and can show their forms.

        Raises:
            InvalidDefinition
        """
        for event in self._classes.values():
            if form_of(event) is event:
                form_reference(event)
                form_schema(event)

    def add_awaited(self, context: Mapping[str, Any]) -> list[_Response]:
        """Add the responses that steps wait for, by `ctx.wait_for_event`, and return them.

        Args:
            context: The stored context of the workflow.
        """
        workers: Mapping[str, Any] = context.get("workers", {})
        names = [waiter["waiting_for_event"] for each in workers.values() for waiter in each["collected_waiters"]]
        awaited = [import_module_from_qualified_name(name) for name in names]
        responses = [event for event in awaited if issubclass(event, HumanResponseEvent)]
        self._classes.update({_name(event): event for event in responses})
        return responses

    def questions(self, asked: Sequence[InputRequiredEvent], awaited: Sequence[_Response]) -> list[Question]:
        """Return what a workflow asks that does nothing else now.

        Args:
            asked: The events that it has written.
            awaited: What its steps wait for.

        Raises:
            StageFailed: if it is unclear which event answers a question.
        """
        if not asked:
            return [Question("", _name(response)) for response in awaited]
        return [Question(_title(event), _name(self._response_to(type(event)))) for event in asked]

    def named(self, name: str) -> _Response:
        """Return the class with this name."""
        return self._classes.get(name, HumanResponseEvent)

    def _response_to(self, asked: type[InputRequiredEvent]) -> _Response:
        declared = getattr(asked, "response_event", None)
        if isinstance(declared, type) and issubclass(declared, HumanResponseEvent):
            return self._classes.setdefault(_name(declared), declared)
        if len(self._classes) == 1:
            return next(iter(self._classes.values()))
        if not self._classes or _name(HumanResponseEvent) in self._classes:
            return HumanResponseEvent
        names = ", ".join(sorted(each.__name__ for each in self._classes.values()))
        raise StageFailed(
            f"{asked.__name__} may be answered by {names}: expected a class attribute response_event with one of them",
            may_retry=False,
        )


def _title(event: InputRequiredEvent) -> str:
    texts = (getattr(event, field, None) for field in TITLE_FIELDS)
    return next((text for text in texts if isinstance(text, str)), "")


def form_of(response: _Response) -> type:
    """Return the form of the answers that become an event: its class, or `str` if it declares no fields."""
    return response if response.model_fields else str


def check_questions(flow: Workflow, *, name: str) -> None:
    """Check the answers of a workflow that asks people.

    Raises:
        InvalidDefinition: if another process could not check them.
    """
    try:
        Responses(flow).check()
    except InvalidDefinition as error:
        raise InvalidDefinition(f"Workflow {name} cannot ask people: {error}") from error


def _name(event: type) -> str:
    return f"{event.__module__}.{event.__qualname__}"
