"""The workers of a simulation: each lives through work, errors and absences of its own."""

from __future__ import annotations

from collections.abc import Generator
from random import Random
from typing import Final

from orchestration import services
from orchestration.models import WorkerStatus

Life = Generator[bool, None, None]
"""Something that goes on, turn by turn: yields True when it changed something, False when it had to wait."""

ABSENCE_CHANCE: Final = 0.004
"""How likely an idle worker goes offline each time it is its turn."""

BREAK_CHANCE: Final = 0.3
"""How likely a worker is in error after its stage did not complete."""

_MAX_TURNS_AWAY: Final = 60


class SimulatedWorker:
    """One worker, as the simulation sees it.

    Attributes:
        is_free: It is idle and nobody has claimed it.
        is_done: The stage it was claimed for is over: it says so when it is its turn.
        is_broken: That stage left it in error.
    """

    def __init__(self, worker_id: str, pool_id: str) -> None:
        self.id = worker_id
        self.pool_id = pool_id
        self.is_free = self.is_done = self.is_broken = False

    def live(self, random: Random) -> Life:
        """Register, and go on for ever.

        Raises:
            ServiceError: somebody else changed this worker or its pool.
        """
        self.is_free = self.is_done = self.is_broken = False
        services.register_worker(worker_id=self.id, pool_id=self.pool_id)
        self.is_free = True
        yield True
        while True:
            if self.is_done:
                yield from self._come_back(random)
            elif self.is_free and random.random() < ABSENCE_CHANCE:
                yield from self._go_away(random)
            else:
                yield False

    def _come_back(self, random: Random) -> Life:
        if self.is_broken:
            services.change_worker_status(worker_id=self.id, status=WorkerStatus.ERROR)
            yield True
            yield from wait(random, most=_MAX_TURNS_AWAY)
        services.change_worker_status(worker_id=self.id, status=WorkerStatus.IDLE)
        self.is_done = self.is_broken = False
        self.is_free = True
        yield True

    def _go_away(self, random: Random) -> Life:
        self.is_free = False
        services.change_worker_status(worker_id=self.id, status=WorkerStatus.OFFLINE)
        yield True
        yield from wait(random, most=_MAX_TURNS_AWAY)
        services.register_worker(worker_id=self.id, pool_id=self.pool_id)
        self.is_free = True
        yield True


def wait(random: Random, *, most: int) -> Life:
    """Let some turns pass, `most` at most."""
    for _ in range(random.randint(0, most)):
        yield False
