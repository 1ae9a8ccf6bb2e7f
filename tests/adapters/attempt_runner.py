"""One attempt of a stage in the test process: real rows, a real claim and a real context, without a worker process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from orchestration import services, signals
from orchestration.models import Stage
from orchestration.sdk import Context, Run, WorkflowDefinition, adapter_of, find_adapter

POOL = "attempts"
PROCESS = "the test process"


@dataclass
class Attempt:
    """A claimed attempt, and what it reported.

    Attributes:
        cancelled: Set it to cancel the attempt.
        messages: The messages that it logged.
        progress: The progress that it reported, with its messages.
        stages: The status changes of its hosted stages: the stage and its new status.
    """

    claim: services.Claim
    cancelled: threading.Event = field(default_factory=threading.Event)
    messages: list[str] = field(default_factory=list)
    progress: list[tuple[float, str]] = field(default_factory=list)
    stages: list[tuple[str, str]] = field(default_factory=list)

    def run(self) -> Any:
        """Run it as a worker does, and return the output of its adapter."""
        workflow, ctx = self.claim.workflow, self.context()
        with self.recorded(), ctx.current():
            inputs = {**workflow.params, "prompt": workflow.prompt}
            output = find_adapter(adapter_of(self.claim.stage)).run(self.claim.plan, ctx, inputs)
            ctx.flush_progress()
        return output

    def context(self) -> Context:
        """Return a new context of the attempt."""
        return Context(
            workflow_id=self.claim.workflow.pk,
            stage_name=self.claim.stage.name,
            stage_id=self.claim.stage.pk,
            attempt=self.claim.attempt,
            cancelled=self.cancelled.is_set,
        )

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Record what the attempt reports, to the end of the block."""
        stage_signals = (signals.stage_started, signals.stage_completed, signals.stage_failed)
        signals.stage_logged.connect(self._on_message)
        signals.stage_progressed.connect(self._on_progress)
        for signal in stage_signals:
            signal.connect(self._on_stage)
        try:
            yield
        finally:
            signals.stage_logged.disconnect(self._on_message)
            signals.stage_progressed.disconnect(self._on_progress)
            for signal in stage_signals:
                signal.disconnect(self._on_stage)

    def complete(self, output: Any) -> None:
        """Store its output, as a worker does."""
        assert services.complete_attempt(
            self.claim.stage.pk, self.claim.attempt, slot=slot_of(self.claim.stage), output=output
        )

    def _on_message(self, message: str, **_: Any) -> None:
        self.messages.append(message)

    def _on_progress(self, stage: Stage, **_: Any) -> None:
        self.progress.append((stage.progress or 0.0, stage.progress_message))

    def _on_stage(self, stage: Stage, **_: Any) -> None:
        self.stages.append((stage.name, stage.status))


def claim_attempt(definition: WorkflowDefinition, prompt: str = "", **params: Any) -> Attempt:
    """Start a run and claim its first queued stage."""
    return claim_queued(definition.start(prompt, pool=POOL, **params))


def claim_queued(run: Run) -> Attempt:
    """Claim the first queued stage of a run."""
    worker_id = services.join_pool(name="attempter", process=PROCESS, pool_id=POOL)
    stage = run.workflow.stages.filter(status="queued").order_by("position")[0]
    claim = services.claim_stage(stage.pk, 1, slot=services.Slot(worker_id=worker_id, process=PROCESS))
    assert claim is not None
    return Attempt(claim)


def slot_of(stage: Stage) -> services.Slot:
    """Return the slot of the worker that runs a stage."""
    return services.Slot(worker_id=stage.worker_id or "", process=PROCESS)
