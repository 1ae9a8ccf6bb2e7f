"""Store the counters of all pools every ten seconds, and delete the samples that are older than a day."""

from __future__ import annotations

from datetime import datetime

from orchestration import services
from orchestration.models.pool_sample import SAMPLE_AGE_SECONDS, SAMPLE_INTERVAL_SECONDS
from orchestration.services.pool_samples import MAX_PRUNED_SAMPLES


class PoolSampler:
    """The sampling of one scheduler. It begins with the next time of the grid."""

    def __init__(self) -> None:
        self._sampled_at: int | None = None
        self._prune_before: int | None = None

    def sample_pools(self, now: datetime) -> int:
        """Store a sample if it is due, and then delete a block of old ones in each pass, until none is left."""
        due = int(now.timestamp()) // SAMPLE_INTERVAL_SECONDS * SAMPLE_INTERVAL_SECONDS
        if self._sampled_at not in (None, due):
            # Set before the attempt: a sample that fails is not taken later, with the counters of another time.
            self._sampled_at = due
            services.sample_pools(due)
            self._prune_before = due - SAMPLE_AGE_SECONDS
        self._sampled_at = due
        if self._prune_before is not None and services.prune_pool_samples(self._prune_before) < MAX_PRUNED_SAMPLES:
            self._prune_before = None
        return 0
