"""Delete the finished runs and the offline workers that need not be kept, one block in each pass of a scheduler."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Set
from datetime import timedelta
from functools import partial
from typing import Final, Protocol

from orchestration.limits import EngineLimits
from orchestration.services.retention import MAX_UNDELETABLE_RUNS, PruningSweep, retentions_of
from orchestration.services.worker_retention import MAX_UNDELETABLE_WORKERS, WorkerRetention, WorkerSweep

logger = logging.getLogger(__name__)

PRUNING_INTERVAL_SECONDS: Final = 60.0
"""How often a scheduler looks for rows to delete."""

UNDELETABLE_INTERVAL_SECONDS: Final = 3600.0
"""How long it leaves out the rows that it could not delete. Then it tries all of them again."""


class BlockSweep(Protocol):
    """Deletes rows block by block, as `PruningSweep` and `WorkerSweep` do, which describe the attributes."""

    left_out: set[str]
    undeletable_count: int
    undeletable: str

    def prune_block(self) -> int | None:
        """Delete the next block and return how many rows it had; None if no row is left."""


class Pruning:
    """The pruning of one kind of rows by one scheduler.

    Args:
        rows: What they are, for the log.
        begin: Returns a sweep that leaves out the rows with these ids.
        max_undeletable: How many rows that cannot be deleted a sweep remembers.
    """

    def __init__(self, rows: str, begin: Callable[[Set[str]], BlockSweep], *, max_undeletable: int) -> None:
        self._rows = rows
        self._begin = begin
        self._max_undeletable = max_undeletable
        self._sweep: BlockSweep | None = None
        self._due_at = 0.0
        self._undeletable: frozenset[str] = frozenset()
        self._retry_at = 0.0

    def prune_block(self) -> int:
        """Delete the next block of rows if pruning is due, and return how many rows it had."""
        if self._sweep is None:
            now = time.monotonic()
            if now < self._due_at:
                return 0
            if now >= self._retry_at:
                self._undeletable = frozenset()
            self._sweep = self._begin(self._undeletable)
        pruned = self._sweep.prune_block()
        if pruned is None:
            self._end_sweep(self._sweep)
            self._sweep = None
        return pruned or 0

    def _end_sweep(self, sweep: BlockSweep) -> None:
        now = time.monotonic()
        # Those that later sweeps find within the hour are left out with these, and logged with them after it.
        if sweep.undeletable and not self._undeletable:
            self._retry_at = now + UNDELETABLE_INTERVAL_SECONDS
            logger.warning(
                "Cannot delete %d %s, such as %s; the scheduler tries again in an hour",
                sweep.undeletable_count,
                self._rows,
                sweep.undeletable,
            )
        self._undeletable = frozenset(sweep.left_out)
        # With too many to remember, each sweep would try the others again: then it does so once an hour.
        is_full = len(self._undeletable) >= self._max_undeletable
        self._due_at = self._retry_at if is_full else now + PRUNING_INTERVAL_SECONDS


def run_pruning(limits: EngineLimits) -> Pruning:
    """Return the pruning of finished runs."""
    retentions = retentions_of(limits)
    return Pruning(
        "finished runs",
        lambda left_out: PruningSweep(*retentions, left_out=left_out),
        max_undeletable=MAX_UNDELETABLE_RUNS,
    )


def worker_pruning(limits: EngineLimits) -> Pruning:
    """Return the pruning of offline workers."""
    retention = WorkerRetention(max_age=timedelta(seconds=limits.max_offline_worker_age_seconds))
    return Pruning("offline workers", partial(WorkerSweep, retention), max_undeletable=MAX_UNDELETABLE_WORKERS)
