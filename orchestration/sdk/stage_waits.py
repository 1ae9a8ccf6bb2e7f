"""Waits inside of a stage, for `ctx.wait_for` and `ctx.ask`: the attempt ends, and the stage begins again later."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from orchestration import services
from orchestration.models import WaitKind
from orchestration.models.wait import MAX_WAIT_TITLE_LENGTH
from orchestration.plan import WaitPlan
from orchestration.sdk.conversion import Mismatch, convert_strictly
from orchestration.sdk.stage_errors import StageFailed
from orchestration.sdk.steps import StaleAttempt
from orchestration.sdk.waits import question, signal_wait
from orchestration.services import AttemptEnded
from orchestration.services.wait_errors import timeout_text
from orchestration.text import truncate


class Suspended(BaseException):
    """Ends an attempt whose stage waits. No error: let it pass.

    Attributes:
        wait: What the stage waits for.
        number: How often it has waited for this name before.
    """

    def __init__(self, wait: WaitPlan, number: int) -> None:
        self.wait = wait
        self.number = number
        super().__init__(f"The stage waits for {wait.name}")


class WaitTimeout(TimeoutError):
    """A wait has reached its time limit.

    Attributes:
        name: The name of the signal or the question.
        timeout_seconds: The time limit.
    """

    kind: ClassVar[WaitKind]

    def __init__(self, name: str, timeout_seconds: float | None) -> None:
        self.name = name
        self.timeout_seconds = timeout_seconds
        super().__init__(name, timeout_seconds)

    def __str__(self) -> str:
        return timeout_text(self.kind, self.name, self.timeout_seconds)


class SignalTimeout(WaitTimeout):
    """The signal did not come in time."""

    kind = WaitKind.SIGNAL


class AnswerTimeout(WaitTimeout):
    """The answer did not come in time."""

    kind = WaitKind.ASK


class StageWaits:
    """The waits of one attempt at a stage.

    Args:
        stage_id: The primary key of the stage.
        attempt: The number of the attempt.
        query: Makes a call that uses the database.
    """

    def __init__(self, stage_id: int, attempt: int, query: Callable[[Callable[[], Any]], Any]) -> None:
        self._stage_id = stage_id
        self._attempt = attempt
        self._query = query
        self._counts: Counter[str] = Counter()
        self._asked: set[str] = set()

    def wait_for(self, name: str, form: type | None, *, timeout_seconds: float | None) -> Any:
        """Return what a signal contains, or end the attempt. `Context.wait_for` describes the arguments.

        Raises:
            Suspended: if the stage has to wait.
            SignalTimeout: if the signal did not come in time.
        """
        wait = signal_wait(name, form, timeout_seconds=timeout_seconds)
        ended = self._ended(wait, self._number(name))
        if ended.is_expired:
            raise SignalTimeout(name, timeout_seconds)
        return _converted(f"The signal {name}", ended.answer, form)

    def ask(self, name: str, form: type, *, title: str, to: Sequence[str], timeout_seconds: float | None) -> Any:
        """Return the answer to a question, or end the attempt. `Context.ask` describes the arguments.

        Raises:
            Suspended: if the stage has to wait.
            AnswerTimeout: if it did not come in time.
        """
        title = truncate(title, MAX_WAIT_TITLE_LENGTH)
        wait = question(name, form, title=title, to=to, timeout_seconds=timeout_seconds)
        if name in self._asked:
            # A late answer to the first question would be one to the second.
            raise StageFailed(f"The stage asks {name} twice; expected a name for each question", may_retry=False)
        self._asked.add(name)
        ended = self._ended(wait, self._number(name))
        if ended.is_expired:
            raise AnswerTimeout(name, timeout_seconds)
        return _converted(f"The answer {name}", ended.answer, form)

    def _number(self, name: str) -> int:
        """Count a wait, and return how often the attempt has come to one of this name before."""
        self._counts[name] += 1
        return self._counts[name] - 1

    def _ended(self, wait: WaitPlan, number: int) -> services.EndedWait:
        """Return how a wait has ended.

        Raises:
            Suspended: if it has not.
        """

        def find() -> services.EndedWait | None:
            return services.find_ended_wait(self._stage_id, self._attempt, wait=wait, number=number)

        try:
            ended: services.EndedWait | None = self._query(find)
        except AttemptEnded as error:
            raise StaleAttempt(str(error), may_retry=False) from error
        if ended is None:
            raise Suspended(wait, number)
        return ended


def _converted(what: str, answer: Any, form: type | None) -> Any:
    if form is None:
        return answer
    try:
        return convert_strictly(answer, form)
    except Mismatch as mismatch:
        raise StageFailed(f"{what} is {mismatch}", may_retry=False) from None
