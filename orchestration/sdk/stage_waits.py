"""Waits inside of a stage, for `ctx.wait_for`: the attempt ends, and the stage begins again when the signal comes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from orchestration import services
from orchestration.plan import WaitPlan
from orchestration.sdk.conversion import Mismatch, convert_strictly
from orchestration.sdk.stage_errors import StageFailed
from orchestration.sdk.steps import StaleAttempt
from orchestration.sdk.waits import signal_wait
from orchestration.services.step_records import AttemptEnded


class Suspended(BaseException):
    """Ends an attempt whose stage waits. No error: let it pass.

    Attributes:
        wait: What the stage waits for.
        number: How often it has waited for this name before.
    """

    def __init__(self, wait: WaitPlan, number: int) -> None:
        self.wait = wait
        self.number = number
        super().__init__(f"The stage waits for the signal {wait.name}")


class SignalTimeout(TimeoutError):
    """The signal did not come in time."""

    def __init__(self, name: str, timeout_seconds: float | None) -> None:
        self.name = name
        self.timeout_seconds = timeout_seconds
        super().__init__(name, timeout_seconds)

    def __str__(self) -> str:
        return f"The signal {self.name} did not come within {self.timeout_seconds:g} s"


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

    def wait_for(self, name: str, form: type | None, *, timeout_seconds: float | None) -> Any:
        """Return what a signal contains, or end the attempt. `Context.wait_for` describes the arguments.

        Raises:
            Suspended: if the stage has to wait.
            SignalTimeout: if the signal did not come in time.
        """
        wait = signal_wait(name, form, timeout_seconds=timeout_seconds)
        number = self._counts[name]
        self._counts[name] += 1

        def find() -> services.EndedWait | None:
            return services.find_ended_wait(self._stage_id, self._attempt, wait=wait, number=number)

        try:
            ended: services.EndedWait | None = self._query(find)
        except AttemptEnded as error:
            raise StaleAttempt(str(error), may_retry=False) from error
        if ended is None:
            raise Suspended(wait, number)
        if ended.is_expired:
            raise SignalTimeout(name, timeout_seconds)
        if form is None:
            return ended.answer
        try:
            return convert_strictly(ended.answer, form)
        except Mismatch as mismatch:
            raise StageFailed(f"The signal {name} is {mismatch}", may_retry=False) from None
