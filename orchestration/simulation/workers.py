"""Simulated workers: they run stages, and sometimes fail or go offline for a while."""

from __future__ import annotations

from collections.abc import Generator
from random import Random
from typing import Final

from orchestration import services
from orchestration.models import WorkerStatus

Ticks = Generator[bool, None, None]
"""The ticks of a simulated worker or workflow: True after a change, False where it has to wait."""

OFFLINE_PROBABILITY: Final = 0.004
"""Probability per tick that an idle worker goes offline."""

ERROR_PROBABILITY: Final = 0.3
"""Probability that a worker is in error after a stage that did not complete."""

_MAX_RECOVERY_TICKS: Final = 60


class SimulatedWorker:
    """One worker of the simulation.

    Attributes:
        is_free: The worker is idle and no workflow has claimed it.
        has_finished: The stage that claimed the worker has finished; the worker's next tick changes its status.
        has_failed: That stage left the worker in error.
    """

    def __init__(self, worker_id: str, pool_id: str) -> None:
        self.id = worker_id
        self.pool_id = pool_id
        self.is_free = self.has_finished = self.has_failed = False

    def run(self, random: Random) -> Ticks:
        """Register the worker and simulate it in an endless loop.

        Raises:
            ServiceError: if another process changed this worker or its pool.
        """
        self.is_free = self.has_finished = self.has_failed = False
        services.register_worker(worker_id=self.id, pool_id=self.pool_id)
        self.is_free = True
        yield True
        while True:
            if self.has_finished:
                yield from self._become_idle(random)
            elif self.is_free and random.random() < OFFLINE_PROBABILITY:
                yield from self._go_offline(random)
            else:
                yield False

    def _become_idle(self, random: Random) -> Ticks:
        if self.has_failed:
            services.change_worker_status(worker_id=self.id, status=WorkerStatus.ERROR)
            yield True
            yield from wait(random, max_ticks=_MAX_RECOVERY_TICKS)
        services.change_worker_status(worker_id=self.id, status=WorkerStatus.IDLE)
        self.has_finished = self.has_failed = False
        self.is_free = True
        yield True

    def _go_offline(self, random: Random) -> Ticks:
        self.is_free = False
        services.change_worker_status(worker_id=self.id, status=WorkerStatus.OFFLINE)
        yield True
        yield from wait(random, max_ticks=_MAX_RECOVERY_TICKS)
        services.register_worker(worker_id=self.id, pool_id=self.pool_id)
        self.is_free = True
        yield True


def wait(random: Random, *, max_ticks: int) -> Ticks:
    """Wait a random number of ticks, at most `max_ticks`."""
    for _ in range(random.randint(0, max_ticks)):
        yield False
