"""Events of stages that wait for an answer, a signal or a time."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar, Self

from django.dispatch import Signal

from orchestration import signals
from orchestration.models import Stage, Wait
from realtime.events.types.stage import StageEvent


class WorkflowWaiting(StageEvent, kw_only=True):
    """A stage waits, and holds no slot.

    Attributes:
        wait_id: The wait: a stage that begins again opens another one.
        wait_name: The name under which it is answered; that of the signal.
        kind: `ask` for an answer, `signal` for a signal, `sleep` for a time.
        title: What is asked; may be empty.
        schema: The JSON Schema of the answer; empty for any.
        recipients: Who should answer.
        expires_at: When the wait ends without an answer; null if it does not.
        last_attempt: Number of the attempt after which a failure is final.
    """

    event: ClassVar[str] = "workflow.waiting"
    signal: ClassVar[Signal] = signals.wait_opened
    sample: ClassVar[dict[str, Any]] = {
        "stage_name": "test",
        "wait_id": 1,
        "wait_name": "test",
        "kind": "ask",
        "title": "A test?",
        "schema": {},
        "recipients": [],
        "expires_at": None,
        "last_attempt": 1,
    }
    wait_id: int
    wait_name: str
    kind: str
    title: str
    schema: Any
    recipients: list[str]
    expires_at: datetime | None
    last_attempt: int

    @classmethod
    def from_signal(cls, *, stage: Stage, at: datetime, **arguments: Any) -> Self:
        wait: Wait = arguments["wait"]
        values = {name: getattr(wait, name) for name in ("kind", "title", "schema", "expires_at")}
        values |= {"wait_id": wait.pk, "wait_name": wait.name, "recipients": wait.recipient_list}
        return cls._build(stage, stage_name=stage.name, **values, timestamp=at)


class WorkflowWaitAnswered(StageEvent, kw_only=True):
    """A wait is answered. The answer is the result of the stage, if the stage only waits.

    Attributes:
        wait_id: The wait.
        wait_name: Its name.
        by: Who answered; empty if that is unknown.
        resumes: Whether the stage is pending now, to begin again.
    """

    event: ClassVar[str] = "workflow.wait_answered"
    signal: ClassVar[Signal] = signals.wait_answered
    sample: ClassVar[dict[str, Any]] = {
        "stage_name": "test",
        "wait_id": 1,
        "wait_name": "test",
        "by": "",
        "resumes": False,
    }
    wait_id: int
    wait_name: str
    by: str
    resumes: bool

    @classmethod
    def from_signal(cls, *, stage: Stage, at: datetime, **arguments: Any) -> Self:
        wait: Wait = arguments["wait"]
        values = {"wait_id": wait.pk, "wait_name": wait.name, "by": wait.answered_by, "resumes": wait.resumes}
        return cls._build(stage, stage_name=stage.name, **values, timestamp=at)


class WorkflowWaitExpired(StageEvent, kw_only=True):
    """The time of a wait is over.

    Attributes:
        wait_id: The wait.
        wait_name: Its name.
        resumes: Whether the stage is pending now, to begin again.
    """

    event: ClassVar[str] = "workflow.wait_expired"
    signal: ClassVar[Signal] = signals.wait_expired
    sample: ClassVar[dict[str, Any]] = {"stage_name": "test", "wait_id": 1, "wait_name": "test", "resumes": False}
    wait_id: int
    wait_name: str
    resumes: bool

    @classmethod
    def from_signal(cls, *, stage: Stage, at: datetime, **arguments: Any) -> Self:
        wait: Wait = arguments["wait"]
        values = {"wait_id": wait.pk, "wait_name": wait.name, "resumes": wait.resumes}
        return cls._build(stage, stage_name=stage.name, **values, timestamp=at)
