"""One attempt at a stage in the test process: real rows, a real claim and a real context, and no worker process."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from orchestration import services, signals
from orchestration.adapters import adapter_named
from orchestration.models import Stage
from orchestration.sdk import WorkflowDefinition
from orchestration.sdk.context import Context

POOL = "attempts"
PROCESS = "the test process"


@dataclass
class Attempt:
    """An attempt that is claimed, and what was heard of it.

    Attributes:
        unwanted: Set it, and the attempt is told that it is cancelled.
        messages: What it logged.
        progress: How far it said it was, and its words.
        stages: What it said of stages that it hosts: the stage and its new status.
    """

    claim: services.Claim
    unwanted: threading.Event = field(default_factory=threading.Event)
    messages: list[str] = field(default_factory=list)
    progress: list[tuple[float, str]] = field(default_factory=list)
    stages: list[tuple[str, str]] = field(default_factory=list)

    def run(self) -> Any:
        """Run it as a worker does, and return what its adapter returned."""
        stage, workflow = self.claim.stage, self.claim.workflow
        ctx = Context(
            workflow_id=workflow.pk,
            stage_name=stage.name,
            stage_id=stage.pk,
            attempt=self.claim.attempt,
            cancelled=self.unwanted.is_set,
        )
        of_stages = (signals.stage_started, signals.stage_completed, signals.stage_failed)
        signals.stage_logged.connect(self._hear_message)
        signals.stage_progressed.connect(self._hear_progress)
        for signal in of_stages:
            signal.connect(self._hear_stage)
        try:
            output = adapter_named(workflow.adapter).run(
                self.claim.plan, ctx, {**workflow.params, "prompt": workflow.prompt}
            )
            ctx.flush_progress()
        finally:
            signals.stage_logged.disconnect(self._hear_message)
            signals.stage_progressed.disconnect(self._hear_progress)
            for signal in of_stages:
                signal.disconnect(self._hear_stage)
        return output

    def complete(self, output: Any) -> None:
        """End it well, as a worker does."""
        assert services.complete_attempt(
            self.claim.stage.pk, self.claim.attempt, slot=slot_of(self.claim.stage), output=output
        )

    def _hear_message(self, message: str, **_: Any) -> None:
        self.messages.append(message)

    def _hear_progress(self, stage: Stage, **_: Any) -> None:
        self.progress.append((stage.progress or 0.0, stage.progress_message))

    def _hear_stage(self, stage: Stage, **_: Any) -> None:
        self.stages.append((stage.name, stage.status))


def attempt_at(definition: WorkflowDefinition, prompt: str = "", **params: Any) -> Attempt:
    """Start a run and claim its first stage that is queued."""
    run = definition.start(prompt, pool=POOL, **params)
    worker_id = services.join_pool(name="attempter", process=PROCESS, pool_id=POOL)
    stage = run.workflow.stages.filter(status="queued").order_by("position")[0]
    claim = services.claim_stage(stage.pk, 1, slot=services.Slot(worker_id=worker_id, process=PROCESS))
    assert claim is not None
    return Attempt(claim)


def slot_of(stage: Stage) -> services.Slot:
    """The slot of the worker that runs a stage."""
    return services.Slot(worker_id=stage.worker_id or "", process=PROCESS)
