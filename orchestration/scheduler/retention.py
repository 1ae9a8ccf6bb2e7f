"""Delete the finished runs that need not be kept, one block in each pass of a scheduler."""

from __future__ import annotations

import logging
import time
from typing import Final

from orchestration.limits import EngineLimits
from orchestration.services.retention import MAX_UNDELETABLE_RUNS, PruningSweep, retentions_of

logger = logging.getLogger(__name__)

PRUNING_INTERVAL_SECONDS: Final = 60.0
"""How often a scheduler looks for finished runs to delete."""

UNDELETABLE_INTERVAL_SECONDS: Final = 3600.0
"""How long it leaves out the runs that it could not delete. Then it tries all of them again."""


class RunPruning:
    """The pruning of one scheduler."""

    def __init__(self, limits: EngineLimits) -> None:
        self._limits = limits
        self._sweep: PruningSweep | None = None
        self._due_at = 0.0
        self._undeletable: frozenset[str] = frozenset()
        self._retry_at = 0.0

    def prune_block(self) -> int:
        """Delete the next block of runs if pruning is due, and return how many runs it had."""
        if self._sweep is None:
            now = time.monotonic()
            if now < self._due_at:
                return 0
            if now >= self._retry_at:
                self._undeletable = frozenset()
            self._sweep = PruningSweep(*retentions_of(self._limits), left_out=self._undeletable)
        pruned = self._sweep.prune_block()
        if pruned is None:
            self._end_sweep(self._sweep)
            self._sweep = None
        return pruned or 0

    def _end_sweep(self, sweep: PruningSweep) -> None:
        now = time.monotonic()
        # Those that later sweeps find within the hour are left out with these, and logged with them after it.
        if sweep.undeletable and not self._undeletable:
            self._retry_at = now + UNDELETABLE_INTERVAL_SECONDS
            logger.warning(
                "Cannot delete %d finished runs, such as %s; the scheduler tries again in an hour",
                sweep.undeletable_count,
                sweep.undeletable,
            )
        self._undeletable = frozenset(sweep.left_out)
        # With too many to remember, each sweep would try the others again: then it does so once an hour.
        is_full = len(self._undeletable) >= MAX_UNDELETABLE_RUNS
        self._due_at = self._retry_at if is_full else now + PRUNING_INTERVAL_SECONDS
