"""Wait for signals and answers in a stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from orchestration.sdk.stage_errors import StageFailed
from orchestration.sdk.stage_waits import StageWaits
from orchestration.sdk.starting_stage import StartingStage
from orchestration.secret_mask import masked
from orchestration.text import storable, text_of


class WaitingStage(StartingStage):
    """One attempt, as it waits. `StageDatabase` describes the arguments."""

    def __init__(
        self, label: str, engine_connections: Callable[[], AbstractContextManager[None]] = nullcontext
    ) -> None:
        super().__init__(label, engine_connections)
        self._waits: StageWaits | None = None

    def wait_for(self, name: str, form: type | None = None, *, timeout_seconds: float | None = None) -> Any:
        """Wait for a signal without a slot, and return what it contains: an object of the form, or JSON.

        If the signal is not there yet, the attempt ends here, and uses up none of the stage's attempts. The stage
        begins again when the signal comes, and the same call then returns it. Work before it belongs in `ctx.step`,
        which is not repeated. The n-th call for a name in an attempt stands for the n-th signal.

        Args:
            name: The name of the signal: `run.signal(name, …)` sends it.
            form: What it must contain, as that of `ask`; None for any JSON.
            timeout_seconds: How long to wait; None for no limit.

        Raises:
            SignalTimeout: if it did not come in time.
            StageFailed: in a transaction, whose end nothing would record.
            InvalidDefinition: if an argument is out of range.
        """
        return self._stage_waits(f"signal {name}").wait_for(name, form, timeout_seconds=timeout_seconds)

    def ask(
        self,
        name: str,
        form: type = str,
        *,
        title: object = "",
        to: Sequence[str] = (),
        timeout_seconds: float | None = None,
    ) -> Any:
        """Ask a person or a program without a slot, and return the answer: an object of the form.

        As with `wait_for`, the attempt ends here if there is no answer yet, and the stage begins again with it.

        Args:
            name: The name under which it is answered, as that of a stage by `ask`. Another one for each question of a
                run.
            form: What the answer must be: as that of `ask`.
            title: What is asked. Nothing in it is evaluated.
            to: Who should answer, as that of `ask`.
            timeout_seconds: How long to wait; None for no limit.

        Raises:
            AnswerTimeout: if it did not come in time.
            StageFailed: if the attempt has asked under this name before; in a transaction.
            InvalidDefinition: if an argument is out of range.
        """
        text = storable(masked(text_of(title)))
        return self._stage_waits(f"answer {name}").ask(name, form, title=text, to=to, timeout_seconds=timeout_seconds)

    def _stage_waits(self, awaited: str) -> StageWaits:
        if self._has_transaction():
            raise StageFailed(
                f"The stage waits for the {awaited} in a transaction. Expected it outside of transaction.atomic(), and "
                "in a stage without atomic=True.",
                may_retry=False,
            )
        if self._waits is None:
            self._waits = StageWaits(self.stage_id, self.attempt, self._query)
        return self._waits
