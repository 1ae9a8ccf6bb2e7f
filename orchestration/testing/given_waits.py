"""The waits of a stage that is called with a fake context: they have ended with what the test gives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from orchestration.plan import WaitPlan
from orchestration.sdk.form import checked_answer
from orchestration.sdk.stage_waits import StageWaits, Suspended
from orchestration.services import EndedWait


class GivenWaits(StageWaits):
    """Waits that have ended already.

    Args:
        answers: What `ctx.ask` is answered, by the name of the question.
        signals: What the signals of `ctx.wait_for` contain, by name and in their order.
    """

    def __init__(self, answers: Mapping[str, Any], signals: Mapping[str, Sequence[Any]]) -> None:
        super().__init__(0, 0, lambda query: None)
        self._answers = answers
        self._signals = signals
        self._taken: Counter[str] = Counter()

    def _ended(self, wait: WaitPlan, number: int) -> EndedWait:
        given = [self._answers[wait.name]] if wait.name in self._answers else []
        if wait.kind == "signal":
            given = list(self._signals.get(wait.name, ()))[self._taken[wait.name] :]
            self._taken[wait.name] += 1
        if not given:
            raise Suspended(wait, number)
        if isinstance(given[0], TimeoutError):
            return EndedWait(None, is_expired=True)
        return EndedWait(checked_answer(wait, given[0]), is_expired=False)
