"""A living system for people to watch: pools, workers and workflows, driven through the services one change at a time.

Which change comes next follows from the seed alone, so that a seed tells the same story every time, on any machine
and at any rate. Somebody else may change the same rows meanwhile: what a service then refuses is let go, as a real
engine would.

Pools and workers have the same ids in every run (`sim_pool_1`, `sim_pool_1_worker_1`) and come back to life in the next
one. Workflows are `sim_<seed>_<number>`; the numbers go on from those that are stored.
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
from orchestration.simulation.workers import Life, SimulatedWorker
from orchestration.simulation.workflows import SimulatedWorkflow

ENDED: Final = "The simulation ended"

# Long enough for every worker to come back from wherever it is.
_MAX_ROUNDS_WITHOUT_CHANGE: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationOptions:
    """How large the system is, and how lucky.

    Attributes:
        workers: In all, spread over the pools.
        workflows: Under way at a time.
        failures: The share of workflows that do not complete, from 0 to 1.
    """

    pools: int
    workers: int
    workflows: int
    failures: float
    seed: int


class Simulation:
    """One run.

    Attributes:
        created: How many workflows were made.
        ended: How many of them came to each end, by its name.
        refused: How often a service refused, because somebody else had changed something.
    """

    def __init__(self, plan: SimulationOptions) -> None:
        self.created = 0
        self.ended: Counter[str] = Counter()
        self.refused = 0
        self._plan = plan
        self._random = Random(plan.seed)
        self._next_number = 1
        self._pool_ids: list[str] = []
        self._workers: dict[SimulatedWorker, Life] = {}
        self._workflows: dict[SimulatedWorkflow, Life] = {}

    @property
    def running(self) -> int:
        """How many workflows are under way."""
        return sum(workflow.is_created for workflow in self._workflows)

    def changes(self) -> Iterator[None]:
        """Make one change for each item. It ends only when nothing can change, as when somebody closes every pool."""
        self._next_number = Workflow.objects.filter(id__startswith=f"sim_{self._plan.seed}_").count() + 1
        yield from self._open_pools()
        self._hire_workers()
        rounds_without_change = 0
        while (self._pool_ids or self._workflows) and rounds_without_change < _MAX_ROUNDS_WITHOUT_CHANGE:
            while self._pool_ids and len(self._workflows) < self._plan.workflows:
                self._begin_workflow()
            rounds_without_change += 1
            if self._change_something():
                rounds_without_change = 0
                yield

    def end(self) -> int:
        """Cancel the workflows that are under way and let the workers go. Returns how many workflows that were."""
        under_way = [workflow for workflow in self._workflows if workflow.is_created]
        cancelled = sum(
            self._is_done(partial(services.cancel_workflow, workflow_id=workflow.id, reason=ENDED))
            for workflow in under_way
        )
        for worker in self._workers:
            self._is_done(partial(services.change_worker_status, worker_id=worker.id, status=WorkerStatus.OFFLINE))
        self._workflows.clear()
        self._workers.clear()
        return cancelled

    def _open_pools(self) -> Iterator[None]:
        """Open as many pools as planned, or use those of the last run; one that does not accept work is passed over."""
        number = 0
        while len(self._pool_ids) < self._plan.pools:
            number += 1
            pool_id = f"sim_pool_{number}"
            status = Pool.objects.filter(pk=pool_id).values_list("status", flat=True).first()
            if status is None:
                services.create_pool(pool_id=pool_id)
                yield
            if status in (None, PoolStatus.ACTIVE):
                self._pool_ids.append(pool_id)

    def _hire_workers(self) -> None:
        for number in range(self._plan.workers):
            pool_id = self._pool_ids[number % len(self._pool_ids)]
            worker = SimulatedWorker(f"{pool_id}_worker_{number // len(self._pool_ids) + 1}", pool_id)
            self._workers[worker] = worker.live(self._random)

    def _begin_workflow(self) -> None:
        workflow = SimulatedWorkflow(f"sim_{self._plan.seed}_{self._next_number}", self._random.choice(self._pool_ids))
        self._next_number += 1
        self._workflows[workflow] = workflow.live(self._random, workers=self._workers, failures=self._plan.failures)

    def _change_something(self) -> bool:
        """Give everyone a turn, in a random order, until one has changed something."""
        turns: list[SimulatedWorker | SimulatedWorkflow] = [*self._workers, *self._workflows]
        self._random.shuffle(turns)
        return any(
            self._turn_of_worker(one) if isinstance(one, SimulatedWorker) else self._turn_of_workflow(one)
            for one in turns
        )

    def _turn_of_worker(self, worker: SimulatedWorker) -> bool:
        try:
            return next(self._workers[worker])
        except (PoolNotAccepting, WorkerInOtherPool):
            del self._workers[worker]
        except ServiceError:
            self._workers[worker] = worker.live(self._random)
        self.refused += 1
        return False

    def _turn_of_workflow(self, workflow: SimulatedWorkflow) -> bool:
        was_created = workflow.is_created
        try:
            changed = next(self._workflows[workflow])
        except ServiceError as refusal:
            return self._let_go(workflow, refusal)
        self.created += workflow.is_created and not was_created
        if workflow.ended_as is not None:
            self.ended[workflow.ended_as.value] += 1
            del self._workflows[workflow]
        return changed

    def _let_go(self, workflow: SimulatedWorkflow, refusal: ServiceError) -> bool:
        """Fail a workflow that cannot go on; True if that changed anything."""
        self.refused += 1
        del self._workflows[workflow]
        if isinstance(refusal, PoolNotAccepting) and workflow.pool_id in self._pool_ids:
            self._pool_ids.remove(workflow.pool_id)
        if not workflow.is_created:
            return False
        failed = self._is_done(partial(services.fail_workflow, workflow_id=workflow.id, error=str(refusal)))
        self.ended["failed" if failed else "ended by somebody else"] += 1
        return failed

    def _is_done(self, service: Callable[[], object]) -> bool:
        try:
            service()
        except ServiceError:
            return False
        return True
