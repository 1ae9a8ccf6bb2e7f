"""A context for the test of one stage. It stores nothing and needs no database."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestration.sdk import Context, Run, Stream
from orchestration.sdk.results import GivenResults
from orchestration.sdk.steps import StageSteps
from orchestration.sdk.thread_executor import CallingThreadExecutor
from orchestration.services import StepConflict, StepReport, StoredStep
from orchestration.testing.given_waits import GivenWaits


class _StepsInMemory:
    """Steps of a stage that are not stored."""

    def __init__(self, outputs: dict[str, Any], executor: CallingThreadExecutor) -> None:
        self._outputs = outputs
        self._digests: dict[str, str] = {}
        self.run_async = executor.run_async

    def find(self, name: str, arguments_digest: str) -> StoredStep | None:
        if name not in self._outputs:
            return None
        if self._digests.get(name, arguments_digest) != arguments_digest:
            raise StepConflict(name)
        return StoredStep(output=copy.deepcopy(self._outputs[name]))

    def store(self, name: str, arguments_digest: str, output: Any, *, report: StepReport | None) -> StoredStep:
        self._outputs[name] = output
        self._digests[name] = arguments_digest
        return StoredStep(output=copy.deepcopy(output))

    def report(self, report: StepReport) -> None:
        """Do nothing: there are no subscribers."""


@dataclass(frozen=True, kw_only=True)
class StartedRun:
    """A call of `ctx.start`.

    Attributes:
        name: The name of the workflow.
    """

    name: str
    prompt: str
    key: str | None
    pool: str | None
    detached: bool
    params: Mapping[str, Any]


class FakeContext(Context):
    """A context that records what the stage reports; `fake_context` makes one.

    Attributes:
        logs: The messages of `ctx.log`, as clients would receive them.
        steps: The output of each step that `ctx.step` has completed, by name.
        streams: The streams of `ctx.stream`, by name; `streams[name].written().content` is what was written.
        sub_runs: What `ctx.start` was called with, in order.
        progress_reports: Each `ctx.progress`, as clients would receive it if there were no throttle.
    """

    def __init__(
        self,
        *,
        workflow_id: str,
        stage_name: str,
        attempt: int,
        results: Mapping[str, Any],
        steps: Mapping[str, Any],
        answers: Mapping[str, Any],
        signals: Mapping[str, Sequence[Any]],
        cancelled: bool,
        stopping: bool,
    ) -> None:
        super().__init__(
            workflow_id=workflow_id,
            stage_name=stage_name,
            stage_id=0,
            attempt=attempt,
            cancelled=lambda: self._is_cancelled,
            stopping=lambda: self._is_stopping,
        )
        self.results = GivenResults(results)
        self.logs: list[str] = []
        self.progress_reports: list[tuple[float, str]] = []
        self.steps: dict[str, Any] = dict(steps)
        self._steps = StageSteps(_StepsInMemory(self.steps, self._executor))
        self._waits = GivenWaits(answers, signals)
        self.sub_runs: list[StartedRun] = []
        self._is_cancelled = cancelled
        self._is_stopping = stopping

    def cancel(self) -> None:
        """Cancel the attempt, as the end of the run does."""
        self._is_cancelled = True

    def stop_worker(self) -> None:
        """Stop the worker, as an operator does."""
        self._is_stopping = True

    def progress(self, progress: float, message: object = "") -> None:
        self._progress_sent_at = -math.inf  # No throttle.
        super().progress(progress, message)

    def _start_sub_run(self, definition: Any, prompt: str, **options: Any) -> Run:
        started = StartedRun(name=definition.name, prompt=prompt, **options)
        self.sub_runs.append(started)
        return Run(f"{self.workflow_id}.{len(self.sub_runs)}")

    @property
    def streams(self) -> Mapping[str, Stream]:
        return self._streams.by_name

    def _announce_stream(self, stream: Stream) -> None:
        """Announce nothing."""

    def _send_message(self, message: str) -> None:
        self.logs.append(message)

    def _send_progress(self, progress: float, message: str) -> None:
        self.progress_reports.append((progress, message))

    def _query(self, query: Callable[[], Any], **options: Any) -> Any:
        """Store nothing."""


def fake_context(
    *,
    stage_name: str = "stage",
    workflow_id: str = "wf_test",
    attempt: int = 1,
    results: Mapping[str, Any] | None = None,
    steps: Mapping[str, Any] | None = None,
    answers: Mapping[str, Any] | None = None,
    signals: Mapping[str, Sequence[Any]] | None = None,
    cancelled: bool = False,
    stopping: bool = False,
) -> FakeContext:
    """Return a context to call one stage with: `load.function(fake_context(), {"prompt": "…"})`.

    A coroutine stage is awaited by the test, or run with `ctx.run_coroutine(…)`.

    Args:
        stage_name: The name of the stage.
        workflow_id: The id of the run.
        attempt: The number of the attempt.
        results: The outputs of earlier stages, by name.
        steps: The outputs of steps that an earlier attempt has completed, by name, with any arguments.
        answers: What `ctx.ask` is answered, by the name of the question. Without one it raises `Suspended`, as in a
            real run. A `TimeoutError` stands for the end of its time limit.
        signals: What the signals of `ctx.wait_for` contain, by name and in order; likewise.
        cancelled: Whether the attempt is cancelled from the start.
        stopping: Whether the worker stops from the start.
    """
    return FakeContext(
        workflow_id=workflow_id,
        stage_name=stage_name,
        attempt=attempt,
        results={} if results is None else results,
        steps={} if steps is None else steps,
        answers={} if answers is None else answers,
        signals={} if signals is None else signals,
        cancelled=cancelled,
        stopping=stopping,
    )
