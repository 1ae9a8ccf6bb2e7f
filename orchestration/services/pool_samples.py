"""Store the counters of all pools from time to time, and delete old samples."""

from __future__ import annotations

from typing import Final

from django.db import connection

from orchestration.models import POOL_COUNTERS, Pool, PoolSample, PoolStatus

MAX_PRUNED_SAMPLES: Final = 2000
"""About how many samples one statement deletes: those of the last time that it reaches are deleted together."""

_COUNTERS: Final = ", ".join(POOL_COUNTERS)
# In the order of the key, so that two schedulers insert in the same order and cannot deadlock.
_INSERT: Final = f"""
INSERT INTO {PoolSample._meta.db_table} (pool_id, unix_seconds, {_COUNTERS})
SELECT id, %s, {_COUNTERS} FROM {Pool._meta.db_table} WHERE status <> %s ORDER BY id
ON CONFLICT DO NOTHING
"""


def sample_pools(unix_seconds: int) -> int:
    """Store a sample of each pool that is not closed, and return how many.

    If another scheduler has stored those of this time, they stay.
    """
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, [unix_seconds, PoolStatus.CLOSED.value])
        return int(cursor.rowcount)


def prune_pool_samples(before: int) -> int:
    """Delete a block of the samples from before this time, oldest first, and return how many were deleted."""
    old = PoolSample.objects.filter(unix_seconds__lt=before)
    times = old.order_by("unix_seconds").values_list("unix_seconds", flat=True)
    last = times[MAX_PRUNED_SAMPLES - 1 : MAX_PRUNED_SAMPLES].first()
    if last is not None:
        old = old.filter(unix_seconds__lte=last)
    deleted, _ = old.delete()
    return deleted
