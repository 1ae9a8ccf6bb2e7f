"""What a stage is given to know and to say while it runs: `ctx`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from orchestration import services
from orchestration.db.retry import retry_while_unavailable
from orchestration.limits import engine_limits
from orchestration.models import Stage, StageStatus
from orchestration.sdk.thread_executor import CallingThreadExecutor

logger = logging.getLogger(__name__)


class Cancelled(Exception):
    """Raised by `ctx.raise_if_cancelled()` in a stage whose run has ended."""


class Results(Mapping[str, Any]):
    """Outputs of the completed stages of a run, by name; read from the database when first asked for."""

    def __init__(self, workflow_id: str, home: CallingThreadExecutor) -> None:
        self._workflow_id = workflow_id
        self._home = home
        self._outputs: dict[str, Any] | None = None

    def __getitem__(self, stage_name: str) -> Any:
        return self._read()[stage_name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def _read(self) -> dict[str, Any]:
        if self._outputs is None:
            completed = Stage.objects.filter(workflow_id=self._workflow_id, status=StageStatus.COMPLETED)
            rows = completed.order_by("position").values_list("name", "result")
            found = self._home.do(
                lambda: retry_while_unavailable(lambda: list(rows), timeout_seconds=engine_limits().lease_seconds)
            )
            self._outputs = {name: (result or {}).get("output") for name, result in found}
        return self._outputs


class Context:
    """One attempt at one stage.

    Attributes:
        workflow_id: The run.
        stage_name: The stage.
        attempt: 1 for the first. It counts on over lost attempts and retries.
        results: The outputs of the stages that completed before, by name.
        home: The thread that has the database; for adapters that run a stage in another one.
    """

    def __init__(
        self, *, workflow_id: str, stage_name: str, stage_id: int, attempt: int, cancelled: Callable[[], bool]
    ) -> None:
        self.workflow_id = workflow_id
        self.stage_name = stage_name
        self.attempt = attempt
        self.home = CallingThreadExecutor()
        self.results: Mapping[str, Any] = Results(workflow_id, self.home)
        self._stage_id = stage_id
        self._cancelled = cancelled
        self._messages = 0
        self._progress_told_at = 0.0
        self._untold_progress: tuple[float, str] | None = None

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt at this stage of this run, and for nothing else.

        A stage may run more than once: hand this to whatever must happen once.
        """
        return f"{self.workflow_id}/{self.stage_name}"

    def cancelled(self) -> bool:
        """Tell whether the attempt is not wanted any more: its process is killed shortly. Costs nothing to ask."""
        return self._cancelled()

    def raise_if_cancelled(self) -> None:
        """Raises: Cancelled."""
        if self.cancelled():
            raise Cancelled

    def log(self, message: str) -> None:
        """Say something to whoever follows the run, as a `workflow.stage_log` event."""
        limits = engine_limits()
        text = printable(str(message))
        logger.info("%s/%s: %s", self.workflow_id, self.stage_name, text[:200])
        self._messages += 1
        if self._messages > limits.max_log_messages:
            return
        if self._messages == limits.max_log_messages:
            text = f"{text[: limits.max_log_message_characters // 2]} (the last message: there were too many)"
        message = shortened(text, limits.max_log_message_characters)
        self._insist(lambda: services.report_message(self._stage_id, self.attempt, message=message))

    def progress(self, progress: float, message: str = "") -> None:
        """Say how far the attempt is, from 0 to 1, as a `workflow.stage_progress` event.

        More often than it can be told, the last one counts; what is untold at the end is told then.
        """
        now = time.monotonic()
        self._untold_progress = (min(max(float(progress), 0.0), 1.0), message)
        if now - self._progress_told_at >= engine_limits().progress_interval_seconds:
            self._progress_told_at = now
            self.flush_progress()

    def flush_progress(self) -> None:
        """Tell the progress that came too soon after the one before it."""
        untold, self._untold_progress = self._untold_progress, None
        if untold is not None:
            text = shortened(printable(untold[1]), engine_limits().max_log_message_characters)
            progress = untold[0]
            self._insist(
                lambda: services.report_progress(self._stage_id, self.attempt, progress=progress, message=text)
            )

    def hosted_started(self, stage_name: str) -> None:
        """Say that a hosted stage began. One that has begun or ended already is left as it is."""
        self._report(services.start_stage, stage_name)

    def hosted_completed(self, stage_name: str, output: Any = None) -> None:
        """Say that a hosted stage is completed; its output is JSON."""
        self._report(services.complete_stage, stage_name, result={"output": output})

    def hosted_failed(self, stage_name: str, error: str) -> None:
        """Say that a hosted stage failed. What that means for the run is for this stage to say."""
        self._report(services.fail_stage, stage_name, error=shortened(printable(error), 1000))

    def _report(self, service: Callable[..., Any], stage_name: str, **arguments: Any) -> None:
        try:
            self._insist(lambda: service(workflow_id=self.workflow_id, stage_name=stage_name, **arguments))
        except (services.IllegalTransition, services.WorkflowNotRunning) as refusal:
            # An earlier attempt has said so already, or the run has ended meanwhile.
            logger.debug("%s", refusal)

    def _insist(self, report: Callable[[], object]) -> None:
        """Report in the thread that has the database; a stage does not fail because that was away for a moment."""
        self.home.do(lambda: retry_while_unavailable(report, timeout_seconds=engine_limits().lease_seconds))


def printable(text: str) -> str:
    """Return the text without what a database cannot hold."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def shortened(text: str, max_characters: int) -> str:
    """Return the text, cut to so many characters."""
    return text if len(text) <= max_characters else text[: max_characters - 1] + "…"
