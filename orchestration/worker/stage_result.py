"""How the call of a stage ended: what it returned or raised, or the recorded outcome of an atomic stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from orchestration import services
from orchestration.plan import StagePlan, WaitPlan
from orchestration.sdk import StageFailed, WaitForRuns
from orchestration.services import AttemptOutcome

REJECTIONS: Final = (
    services.PoolNotAccepting,
    services.TooManyStages,
    services.ItemAddsSteps,
    services.UnknownPool,
    services.NotASubRun,
    services.NameAwaited,
)
"""Why what follows a stage cannot be stored. Then the stage fails: a retry could not change that."""


@dataclass(frozen=True, slots=True)
class Returned:
    """What a stage returned: its checked output, and the stages that it adds behind itself, or the values to map.

    Attributes:
        wait_for_runs: The sub-runs that it waits for, in place of an output.
        wait: The answer, signal or time that it waits for, in place of an output.
        wait_number: How often it has waited for this name before.
        resumes: Whether the stage begins again at the end of the wait.
    """

    output: Any
    next_stages: tuple[StagePlan, ...] = ()
    map_values: list[Any] | None = None
    wait_for_runs: WaitForRuns | None = None
    wait: WaitPlan | None = None
    wait_number: int = 0
    resumes: bool = False


@dataclass(frozen=True, slots=True)
class Recorded:
    """The outcome of an atomic stage: it was committed with what the stage wrote."""

    outcome: AttemptOutcome


class Raised:
    """The exception that a stage raised.

    Attributes:
        by_stop: Whether the stop of the worker is the cause.
        by_termination: Whether the process got SIGTERM, although the worker continues.
    """

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.by_stop = False
        self.by_termination = False


class OpenTransaction(StageFailed):
    """A stage ended inside a database transaction."""

    def __init__(self, databases: list[str]) -> None:
        super().__init__(
            f"The stage left a transaction open (database {', '.join(databases)}); it is rolled back. "
            "Expected each transaction to end before the stage returns."
        )


class UntimelyHandOver(StageFailed):
    """A stage raised `HandOver` in a worker that continues. To release it would repeat it without a limit."""

    def __init__(self) -> None:
        super().__init__(
            "The stage raised HandOver, but its worker does not stop. "
            "A stage can be handed over only while `ctx.stopping()` is True."
        )
