"""The workers of an observed application, and the queues that they serve."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from orchestration.models import PoolStatus
from orchestration.observers.celery.identity import Identity
from orchestration.observers.celery.reports import ReportLog
from orchestration.services.report_types import PoolReport, WorkerReport

MAX_WORKERS: Final = 1000
"""Workers that are shown. Further ones are counted only."""

MAX_POOLS: Final = 1000
"""Queues that are shown."""

MAX_QUEUES_PER_WORKER: Final = 100

QUEUES_WAIT_SECONDS: Final = 5.0
"""How long a new worker may take to name its queues, before it is shown in the pool of unknown queues."""

ANSWER_SECONDS: Final = 30.0
"""How long a new worker is asked for its queues. Its remote control may be disabled, or its event forged."""

MIN_SILENCE_SECONDS: Final = 10.0
"""A worker without an event for this long, and for four of its heartbeats, is offline."""

DEFAULT_FREQ_SECONDS: Final = 5.0
MAX_FREQ_SECONDS: Final = 300.0


@dataclass(slots=True)
class Worker:
    """One worker.

    Attributes:
        id: Its id here.
        first_seen, seen: When the first event of this process and the last one arrived, on the monotonic clock.
        pool_id: Its pool; empty until that is known.
        status: The status that was reported last; empty if none was.
        running: The short ids of its tasks, each with the id of its workflow.
        has_answered: Whether this process of it has named its queues.
    """

    id: str
    first_seen: float
    seen: float
    pool_id: str = ""
    status: str = ""
    pid: int | None = None
    freq: float = DEFAULT_FREQ_SECONDS
    running: dict[str, str] = field(default_factory=dict)
    has_answered: bool = False

    @property
    def silence_seconds(self) -> float:
        """How long it may be silent before it is offline."""
        return max(MIN_SILENCE_SECONDS, 4 * min(self.freq, MAX_FREQ_SECONDS))


class Workers:
    """All workers.

    Attributes:
        ignored: Workers that were not shown, because there were too many.
    """

    def __init__(self, identity: Identity, log: ReportLog) -> None:
        self._identity = identity
        self._log = log
        self._workers: dict[str, Worker] = {}
        self._pools: set[str] = set()
        self.ignored = 0

    def __len__(self) -> int:
        return len(self._workers)

    @property
    def online(self) -> int:
        """How many are online."""
        return sum(worker.status not in ("", "offline") for worker in self._workers.values())

    def get(self, hostname: str) -> Worker | None:
        """Return a worker that is known."""
        return self._workers.get(hostname)

    def see(self, hostname: str, *, clock: float) -> Worker | None:
        """Return the worker of an event, which is new or online now; None if there are too many."""
        worker = self._workers.get(hostname)
        if worker is None:
            if len(self._workers) >= MAX_WORKERS:
                self.ignored += 1
                return None
            worker = self._workers[hostname] = Worker(self._identity.worker_id(hostname), clock, clock)
        worker.seen = clock
        return worker

    def needs_queues(self, *, clock: float) -> bool:
        """Check whether a process that started lately has not named its queues."""
        return any(
            not worker.has_answered and clock - worker.first_seen < ANSWER_SECONDS for worker in self._workers.values()
        )

    def set_queues(self, worker: Worker, queues: tuple[str, ...], at: datetime) -> None:
        """Show the queues of a worker as pools, and the worker in the first of them."""
        worker.has_answered = True
        for queue in queues[:MAX_QUEUES_PER_WORKER]:
            self.show_pool(self._identity.pool_id(queue), at)
        if not worker.pool_id and queues:
            self._join(worker, self._identity.pool_id(queues[0]), at)

    def show_pool(self, pool_id: str, at: datetime) -> bool:
        """Report a pool, if it is new. Return False if there are too many."""
        if pool_id in self._pools:
            return True
        if len(self._pools) >= MAX_POOLS:
            return False
        self._pools.add(pool_id)
        self._log.add(PoolReport(at=at, pool_id=pool_id, status=PoolStatus.ACTIVE, is_new=True))
        return True

    def refresh(self, worker: Worker, at: datetime) -> None:
        """Report whether a worker is idle or busy, if that has changed."""
        self._report(worker, "busy" if worker.running else "idle", at)

    def go_offline(self, worker: Worker, at: datetime) -> None:
        """Report that a worker is offline."""
        self._report(worker, "offline", at)

    def expired(self, *, clock: float, at: datetime) -> list[tuple[str, Worker]]:
        """Return the workers that have been silent for too long. Give a pool to those that wait for one."""
        silent = []
        for hostname, worker in self._workers.items():
            if not worker.pool_id and clock - worker.first_seen > QUEUES_WAIT_SECONDS:
                self._join(worker, self._identity.unknown_pool_id(), at)
            if worker.status != "offline" and clock - worker.seen > worker.silence_seconds:
                silent.append((hostname, worker))
        return silent

    def forget(self, hostname: str) -> None:
        """Forget a worker that is offline. Its row stays."""
        self._workers.pop(hostname, None)

    def _join(self, worker: Worker, pool_id: str, at: datetime) -> None:
        if not self.show_pool(pool_id, at):
            return
        worker.pool_id = pool_id
        self._report(worker, "idle", at, is_registration=True)
        self.refresh(worker, at)

    def _report(self, worker: Worker, status: str, at: datetime, *, is_registration: bool = False) -> None:
        if not worker.pool_id or worker.status == status:
            return
        is_registration = is_registration or worker.status == "offline"
        worker.status = status
        self._log.add(
            WorkerReport(
                at=at, worker_id=worker.id, status=status, pool_id=worker.pool_id, is_registration=is_registration
            )
        )
