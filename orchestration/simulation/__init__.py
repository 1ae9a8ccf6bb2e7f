"""A simulated system: pools, workers and workflows that change through the services, one change at a time.

The order of changes depends on the seed alone: the same seed gives the same changes on any machine and at any rate.
Other processes may change the same rows meanwhile. A change that a service rejects for that reason is dropped.

Pools and workers have the same ids in every run (`sim_pool_1`, `sim_pool_1_worker_1`), and the next run reuses them.
Workflows are `sim_<seed>_<number>`; the numbers continue after the stored ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Final

from orchestration import services
from orchestration.models import Pool, PoolStatus, WorkerStatus, Workflow
from orchestration.services import PoolNotAccepting, ServiceError, WorkerInOtherPool
from orchestration.simulation.workers import SimulatedWorker, Ticks
from orchestration.simulation.workflows import SimulatedWorkflow

SIMULATION_ENDED: Final = "The simulation ended"
"""The reason with which unfinished workflows are cancelled at the end."""

# Long enough for every worker to recover from an error or to come back online.
_MAX_ROUNDS_WITHOUT_CHANGE: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationOptions:
    """The size of the simulated system, and how often it fails.

    Attributes:
        pools: Number of pools.
        workers: Number of workers, spread over the pools.
        workflows: Number of workflows in progress at a time.
        failure_rate: The share of workflows that do not complete, from 0 to 1.
        seed: The seed of all random choices.
    """

    pools: int
    workers: int
    workflows: int
    failure_rate: float
    seed: int


class Simulation:
    """One run of the simulation.

    Attributes:
        created: How many workflows were created.
        outcomes: How many of them ended with each status.
        conflicts: How many changes a service rejected because another process had changed a row.
    """

    def __init__(self, options: SimulationOptions) -> None:
        self.created = 0
        self.outcomes: Counter[str] = Counter()
        self.conflicts = 0
        self._options = options
        self._random = Random(options.seed)
        self._next_number = 1
        self._pool_ids: list[str] = []
        self._workers: dict[SimulatedWorker, Ticks] = {}
        self._workflows: dict[SimulatedWorkflow, Ticks] = {}

    @property
    def running(self) -> int:
        """How many workflows are in progress."""
        return sum(workflow.is_created for workflow in self._workflows)

    def changes(self) -> Iterator[None]:
        """Make one change per item. Ends only when nothing can change, for example because all pools are closed."""
        self._next_number = Workflow.objects.filter(id__startswith=f"sim_{self._options.seed}_").count() + 1
        yield from self._create_pools()
        self._add_workers()
        rounds_without_change = 0
        while (self._pool_ids or self._workflows) and rounds_without_change < _MAX_ROUNDS_WITHOUT_CHANGE:
            while self._pool_ids and len(self._workflows) < self._options.workflows:
                self._add_workflow()
            rounds_without_change += 1
            if self._make_change():
                rounds_without_change = 0
                yield

    def stop(self) -> int:
        """Cancel the workflows in progress and mark the workers offline. Returns how many workflows were cancelled."""
        in_progress = [workflow for workflow in self._workflows if workflow.is_created]
        cancelled = sum(
            self._try_service(partial(services.cancel_workflow, workflow_id=workflow.id, reason=SIMULATION_ENDED))
            for workflow in in_progress
        )
        for worker in self._workers:
            self._try_service(partial(services.change_worker_status, worker_id=worker.id, status=WorkerStatus.OFFLINE))
        self._workflows.clear()
        self._workers.clear()
        return cancelled

    def _create_pools(self) -> Iterator[None]:
        """Create the pools, or reuse those of the last run. Skips pools that do not accept workflows."""
        number = 0
        while len(self._pool_ids) < self._options.pools:
            number += 1
            pool_id = f"sim_pool_{number}"
            status = Pool.objects.filter(pk=pool_id).values_list("status", flat=True).first()
            if status is None:
                services.create_pool(pool_id=pool_id)
                yield
            if status in (None, PoolStatus.ACTIVE):
                self._pool_ids.append(pool_id)

    def _add_workers(self) -> None:
        for number in range(self._options.workers):
            pool_id = self._pool_ids[number % len(self._pool_ids)]
            worker = SimulatedWorker(f"{pool_id}_worker_{number // len(self._pool_ids) + 1}", pool_id)
            self._workers[worker] = worker.run(self._random)

    def _add_workflow(self) -> None:
        workflow_id = f"sim_{self._options.seed}_{self._next_number}"
        workflow = SimulatedWorkflow(workflow_id, self._random.choice(self._pool_ids))
        self._next_number += 1
        self._workflows[workflow] = workflow.run(
            self._random, workers=self._workers, failure_rate=self._options.failure_rate
        )

    def _make_change(self) -> bool:
        """Advance workers and workflows in random order until one makes a change. Returns whether one did."""
        participants: list[SimulatedWorker | SimulatedWorkflow] = [*self._workers, *self._workflows]
        self._random.shuffle(participants)
        return any(
            self._advance_worker(each) if isinstance(each, SimulatedWorker) else self._advance_workflow(each)
            for each in participants
        )

    def _advance_worker(self, worker: SimulatedWorker) -> bool:
        try:
            return next(self._workers[worker])
        except (PoolNotAccepting, WorkerInOtherPool):
            del self._workers[worker]
        except ServiceError:
            self._workers[worker] = worker.run(self._random)
        self.conflicts += 1
        return False

    def _advance_workflow(self, workflow: SimulatedWorkflow) -> bool:
        was_created = workflow.is_created
        try:
            changed = next(self._workflows[workflow])
        except ServiceError as error:
            return self._abandon_workflow(workflow, error)
        self.created += workflow.is_created and not was_created
        if workflow.outcome is not None:
            self.outcomes[workflow.outcome.value] += 1
            del self._workflows[workflow]
        return changed

    def _abandon_workflow(self, workflow: SimulatedWorkflow, error: ServiceError) -> bool:
        """Fail a workflow that cannot continue. Returns whether that changed anything."""
        self.conflicts += 1
        del self._workflows[workflow]
        if isinstance(error, PoolNotAccepting) and workflow.pool_id in self._pool_ids:
            self._pool_ids.remove(workflow.pool_id)
        if not workflow.is_created:
            return False
        failed = self._try_service(partial(services.fail_workflow, workflow_id=workflow.id, error=str(error)))
        self.outcomes["failed" if failed else "ended externally"] += 1
        return failed

    def _try_service(self, service: Callable[[], object]) -> bool:
        try:
            service()
        except ServiceError:
            return False
        return True
