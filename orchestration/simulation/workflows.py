"""Simulated workflows: each is created, runs its stages one after another, and ends."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Final

from orchestration import services
from orchestration.models import WorkerStatus, WorkflowStatus
from orchestration.simulation import scenarios
from orchestration.simulation.workers import ERROR_PROBABILITY, SimulatedWorker, Ticks, wait

_MAX_TICKS_PER_STAGE: Final = 6
# The outcomes of workflows that do not complete; failed is the most frequent.
_FAILURE_OUTCOMES: Final = (WorkflowStatus.FAILED,) * 4 + (WorkflowStatus.TIMEOUT, WorkflowStatus.CANCELLED)


class SimulatedWorkflow:
    """One workflow of the simulation.

    Attributes:
        is_created: The workflow is stored.
        outcome: Its final status; None until it has ended.
    """

    def __init__(self, workflow_id: str, pool_id: str) -> None:
        self.id = workflow_id
        self.pool_id = pool_id
        self.is_created = False
        self.outcome: WorkflowStatus | None = None

    def run(self, random: Random, *, workers: Iterable[SimulatedWorker], failure_rate: float) -> Ticks:
        """Create the workflow and run it to its end on free workers of its pool.

        Raises:
            ServiceError: if another process changed this workflow, its pool or one of the workers.
        """
        scenario = scenarios.choose_scenario(random)
        outcome = random.choice(_FAILURE_OUTCOMES) if random.random() < failure_rate else WorkflowStatus.COMPLETED
        last_stage = random.choice(scenario.stages) if outcome != WorkflowStatus.COMPLETED else None
        services.create_workflow(
            workflow_id=self.id,
            name=scenario.name,
            adapter=scenario.adapter,
            prompt=scenario.prompt,
            stages=scenario.stages,
            pool_id=self.pool_id,
        )
        self.is_created = True
        yield True
        services.start_workflow(workflow_id=self.id)
        yield True
        for stage_name in scenario.stages:
            is_last = stage_name == last_stage
            services.queue_stage(workflow_id=self.id, stage_name=stage_name)
            yield True
            if is_last and outcome == WorkflowStatus.CANCELLED:
                break
            yield from self._run_stage(stage_name, random, workers=workers, outcome=outcome if is_last else None)
            if is_last:
                break
        if outcome == WorkflowStatus.COMPLETED:
            services.complete_workflow(workflow_id=self.id, result=scenarios.workflow_result(scenario))
        elif outcome == WorkflowStatus.FAILED:
            services.fail_workflow(workflow_id=self.id, error=f"The stage {last_stage} failed")
        elif outcome == WorkflowStatus.TIMEOUT:
            services.time_out_workflow(workflow_id=self.id)
        else:
            services.cancel_workflow(workflow_id=self.id, reason=random.choice(scenarios.CANCEL_REASONS))
        self.outcome = outcome
        yield True

    def _run_stage(
        self, stage_name: str, random: Random, *, workers: Iterable[SimulatedWorker], outcome: WorkflowStatus | None
    ) -> Ticks:
        """Run one stage on the first free worker.

        With `outcome`, do not complete the stage: the workflow ends here with that status.
        """
        while (worker := self._free_worker(workers)) is None:
            yield False
        worker.is_free = False
        try:
            services.change_worker_status(worker_id=worker.id, status=WorkerStatus.BUSY)
            yield True
            services.start_stage(workflow_id=self.id, stage_name=stage_name, worker_id=worker.id)
            yield True
            yield from wait(random, max_ticks=_MAX_TICKS_PER_STAGE)
            if outcome is None:
                result = scenarios.stage_result(random)
                services.complete_stage(workflow_id=self.id, stage_name=stage_name, result=result)
                yield True
                return
            worker.has_failed = random.random() < ERROR_PROBABILITY
            if outcome == WorkflowStatus.FAILED:
                error = random.choice(scenarios.STAGE_ERRORS)
                services.fail_stage(workflow_id=self.id, stage_name=stage_name, error=error)
                yield True
        finally:
            worker.has_finished = True

    def _free_worker(self, workers: Iterable[SimulatedWorker]) -> SimulatedWorker | None:
        return next((worker for worker in workers if worker.is_free and worker.pool_id == self.pool_id), None)
