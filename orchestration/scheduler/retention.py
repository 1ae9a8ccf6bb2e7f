"""Delete the finished runs that need not be kept, one block in each pass of a scheduler."""

from __future__ import annotations

import logging
import time
from typing import Final

from orchestration.limits import EngineLimits
from orchestration.services.retention import PruningSweep, retentions_of

logger = logging.getLogger(__name__)

PRUNING_INTERVAL_SECONDS: Final = 60.0
"""How often a scheduler looks for finished runs to delete."""

UNDELETABLE_INTERVAL_SECONDS: Final = 3600.0
"""How long it waits instead after it found runs that cannot be deleted: it tries all of them again."""


class RunPruning:
    """The pruning of one scheduler."""

    def __init__(self, limits: EngineLimits) -> None:
        self._limits = limits
        self._sweep: PruningSweep | None = None
        self._due_at = 0.0

    def prune_block(self) -> int:
        """Delete the next block of runs if pruning is due, and return how many runs it had."""
        if self._sweep is None:
            if time.monotonic() < self._due_at:
                return 0
            self._sweep = PruningSweep(*retentions_of(self._limits))
        pruned = self._sweep.prune_block()
        if pruned is None:
            interval_seconds = UNDELETABLE_INTERVAL_SECONDS if self._sweep.undeletable else PRUNING_INTERVAL_SECONDS
            self._due_at = time.monotonic() + interval_seconds
            if self._sweep.undeletable:
                logger.warning(
                    "Cannot delete %d finished runs, such as %s; the scheduler tries again in an hour",
                    self._sweep.undeletable_count,
                    self._sweep.undeletable,
                )
            self._sweep = None
        return pruned or 0
