"""The workflows of a simulation: each is created, runs its stages one after the other, and comes to an end."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Final

from orchestration import services
from orchestration.models import WorkerStatus, WorkflowStatus
from orchestration.simulation import stories
from orchestration.simulation.workers import BREAK_CHANCE, Life, SimulatedWorker, wait

_MAX_TURNS_PER_STAGE: Final = 6
# How a workflow ends that does not complete; failing is the most usual.
_BAD_ENDS: Final = (WorkflowStatus.FAILED,) * 4 + (WorkflowStatus.TIMEOUT, WorkflowStatus.CANCELLED)


class SimulatedWorkflow:
    """One workflow, as the simulation sees it.

    Attributes:
        is_created: It is stored.
        ended_as: Its last status, once it has ended.
    """

    def __init__(self, workflow_id: str, pool_id: str) -> None:
        self.id = workflow_id
        self.pool_id = pool_id
        self.is_created = False
        self.ended_as: WorkflowStatus | None = None

    def live(self, random: Random, *, workers: Iterable[SimulatedWorker], failures: float) -> Life:
        """Be carried out from beginning to end by some of `workers`.

        Raises:
            ServiceError: somebody else changed this workflow, its pool or one of the workers.
        """
        story = stories.write_story(random)
        end = random.choice(_BAD_ENDS) if random.random() < failures else WorkflowStatus.COMPLETED
        last = random.choice(story.stages) if end != WorkflowStatus.COMPLETED else None
        services.create_workflow(
            workflow_id=self.id, adapter=story.adapter, prompt=story.prompt, stages=story.stages, pool_id=self.pool_id
        )
        self.is_created = True
        yield True
        services.start_workflow(workflow_id=self.id)
        yield True
        for stage_name in story.stages:
            services.queue_stage(workflow_id=self.id, stage_name=stage_name)
            yield True
            if stage_name == last and end == WorkflowStatus.CANCELLED:
                break
            yield from self._run_stage(stage_name, random, workers=workers, end=end if stage_name == last else None)
            if stage_name == last:
                break
        if end == WorkflowStatus.COMPLETED:
            services.complete_workflow(workflow_id=self.id, result=stories.final_result(story))
        elif end == WorkflowStatus.FAILED:
            services.fail_workflow(workflow_id=self.id, error=f"The stage {last} failed")
        elif end == WorkflowStatus.TIMEOUT:
            services.time_out_workflow(workflow_id=self.id)
        else:
            services.cancel_workflow(workflow_id=self.id, reason=random.choice(stories.CANCEL_REASONS))
        self.ended_as = end
        yield True

    def _run_stage(
        self, stage_name: str, random: Random, *, workers: Iterable[SimulatedWorker], end: WorkflowStatus | None
    ) -> Life:
        """Run one stage on the first worker that is free; with `end`, up to what ends the workflow like this."""
        while (worker := self._free_worker(workers)) is None:
            yield False
        worker.is_free = False
        try:
            services.change_worker_status(worker_id=worker.id, status=WorkerStatus.BUSY)
            yield True
            services.start_stage(workflow_id=self.id, stage_name=stage_name, worker_id=worker.id)
            yield True
            yield from wait(random, most=_MAX_TURNS_PER_STAGE)
            if end is None:
                result = stories.stage_result(random)
                services.complete_stage(workflow_id=self.id, stage_name=stage_name, result=result)
                yield True
                return
            worker.is_broken = random.random() < BREAK_CHANCE
            if end == WorkflowStatus.FAILED:
                error = random.choice(stories.STAGE_ERRORS)
                services.fail_stage(workflow_id=self.id, stage_name=stage_name, error=error)
                yield True
        finally:
            worker.is_done = True

    def _free_worker(self, workers: Iterable[SimulatedWorker]) -> SimulatedWorker | None:
        return next((worker for worker in workers if worker.is_free and worker.pool_id == self.pool_id), None)
