"""Why an answer or a signal is refused."""

from __future__ import annotations

from datetime import datetime

from orchestration.models import WaitKind
from orchestration.services.errors import ServiceError
from orchestration.services.row_locks import NotFound


def timeout_text(kind: str, name: str, timeout_seconds: float | None) -> str:
    """Return the error of a stage that waited for an answer or a signal which did not come in time."""
    within = "" if timeout_seconds is None else f" within {timeout_seconds:g} s"
    return f"No {'answer to' if kind == WaitKind.ASK else 'signal'} {name}{within}"


class WaitNotFound(NotFound):
    """The run has no wait of this name, and no stage that may open one."""

    kind = "wait"

    def __init__(self, workflow_id: str, name: str) -> None:
        super().__init__(f"{workflow_id}/{name}")
        self.workflow_id = workflow_id
        self.name = name
        self.args = (workflow_id, name)


class AlreadyAnswered(ServiceError):
    """The first answer has won."""

    def __init__(self, workflow_id: str, name: str, by: str, at: datetime | None) -> None:
        self.workflow_id = workflow_id
        self.name = name
        self.by = by
        self.at = at
        super().__init__(workflow_id, name, by, at)

    def __str__(self) -> str:
        return f"{self.name} of workflow {self.workflow_id} was already answered{f' by {self.by}' if self.by else ''}."


class InvalidAnswer(ServiceError):
    """An answer, or what a signal contains, does not fit its form.

    Attributes:
        name: The name of the wait.
        path: Where it differs, such as `approved`; empty for the answer as a whole.
        expected: What is expected there.
        kind: `ask` for an answer, `signal` for a signal.
    """

    def __init__(self, name: str, path: str, expected: str, kind: str = "ask") -> None:
        self.name = name
        self.path = path
        self.expected = expected
        self.kind = kind
        super().__init__(name, path, expected, kind)

    def __str__(self) -> str:
        what = f"signal {self.name}" if self.kind == "signal" else f"answer of {self.name}"
        return f"The {what} is not accepted: {f'{self.path}: ' if self.path else ''}{self.expected}."


class WaitExpired(ServiceError):
    """The time for an answer is over."""

    def __init__(self, workflow_id: str, name: str) -> None:
        self.workflow_id = workflow_id
        self.name = name
        super().__init__(workflow_id, name)

    def __str__(self) -> str:
        return f"{self.name} of workflow {self.workflow_id} expired before this answer."


class WaitClosed(ServiceError):
    """Nothing waits for the answer: the run has ended, or is run again."""

    def __init__(self, workflow_id: str, name: str, status: str) -> None:
        self.workflow_id = workflow_id
        self.name = name
        self.status = status
        super().__init__(workflow_id, name, status)

    def __str__(self) -> str:
        return f"{self.name} of workflow {self.workflow_id} accepts no answer: the workflow has status {self.status}."


class WaitReplaced(WaitClosed):
    """The question is not asked any longer: the run was run again after it."""

    def __str__(self) -> str:
        return (
            f"This question {self.name} of workflow {self.workflow_id} is outdated: the workflow was run again. "
            "Expected the wait_id of a question that it asks now, or a link to it."
        )


class NameAwaited(ServiceError):
    """A stage may not ask under a name under which another stage of the run asks: an answer names no stage.

    Attributes:
        name: The name of the question.
        stage_name: The stage that asks.
    """

    def __init__(self, name: str, stage_name: str) -> None:
        self.name = name
        self.stage_name = stage_name
        super().__init__(name, stage_name)

    def __str__(self) -> str:
        return (
            f"Question name {self.name} is in use by stage {self.stage_name} of this workflow; expected another name, "
            "such as one with the value of the item."
        )


class TooManyEarlyAnswers(ServiceError):
    """A run keeps so many signals and answers for which no stage waits yet."""

    def __init__(self, workflow_id: str, maximum: int) -> None:
        self.workflow_id = workflow_id
        self.maximum = maximum
        super().__init__(workflow_id, maximum)

    def __str__(self) -> str:
        return (
            f"Workflow {self.workflow_id} has {self.maximum} signals and answers that no stage has waited for yet, the "
            "maximum; no more are stored."
        )
