"""The counters of pools over time: for each pool one row every ten seconds, for a day."""

from __future__ import annotations

from typing import Final

from django.db import models

from orchestration.identifiers import MAX_IDENTIFIER_LENGTH

SAMPLE_INTERVAL_SECONDS: Final = 10
"""The grid of the times of samples: multiples of this. So several schedulers write one sample of a time."""

SAMPLE_AGE_SECONDS: Final = 24 * 3600
"""How long a sample is kept."""


class PoolSample(models.Model):
    """The counters of a pool at one time; `orchestration.models.pool.POOL_COUNTERS` names them.

    A sample has no foreign key to its pool: it is deleted by its age only.
    """

    pk = models.CompositePrimaryKey("pool_id", "unix_seconds")
    pool_id = models.CharField(max_length=MAX_IDENTIFIER_LENGTH)
    unix_seconds = models.BigIntegerField(help_text="When, in seconds since 1970 (database clock).")
    worker_count = models.PositiveIntegerField()
    active_workers = models.PositiveIntegerField()
    idle_workers = models.PositiveIntegerField()
    error_workers = models.PositiveIntegerField()
    queue_size = models.PositiveIntegerField()
    tasks_running = models.PositiveIntegerField()
    tasks_completed = models.PositiveBigIntegerField()
    tasks_failed = models.PositiveBigIntegerField()

    class Meta:
        # For pruning.
        indexes = (models.Index(name="orchestration_poolsample_time", fields=["unix_seconds"]),)

    def __str__(self) -> str:
        return f"{self.pool_id} at {self.unix_seconds}"
