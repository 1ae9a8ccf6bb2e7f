"""Prune the event log: which events are deleted, and in which order."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Self

from django.db import transaction

from realtime.eventlog.position import current_position
from realtime.limits import Limits
from realtime.models import Event, EventRoom, Log

_PRUNE_CHUNK_EVENTS = 1000
_PRUNE_MAX_CHUNKS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Which events the log keeps.

    Attributes:
        max_events: Keep at most this many events.
        max_age: Delete older events.
        min_age: Never delete younger events, even above `max_events`: relays backfill from the log.
    """

    max_events: int
    max_age: timedelta
    min_age: timedelta

    @classmethod
    def from_limits(cls, limits: Limits) -> Self:
        """Return the retention that `limits` set."""
        return cls(
            max_events=limits.max_log_events,
            max_age=timedelta(seconds=limits.max_log_age_seconds),
            min_age=timedelta(seconds=limits.min_log_age_seconds),
        )


def prune_events(retention: Retention, *, at: datetime) -> int:
    """Delete events that need not be kept, oldest first, and return how many.

    A transaction deletes at most 1000 events. A call stops after one million; call again until it returns 0.
    """
    pruned = 0
    for _ in range(_PRUNE_MAX_CHUNKS):
        chunk = _prune_chunk(retention, at)
        pruned += chunk
        if chunk < _PRUNE_CHUNK_EVENTS:
            break
    return pruned


def _prune_chunk(retention: Retention, at: datetime) -> int:
    newest = current_position().seq
    oldest = list(Event.objects.order_by("seq").values_list("seq", "timestamp")[:_PRUNE_CHUNK_EVENTS])
    max_events_cutoff = newest - retention.max_events
    max_age_cutoff, min_age_cutoff = at - retention.max_age, at - retention.min_age

    def is_prunable(row: tuple[int, datetime]) -> bool:
        seq, timestamp = row
        # With a timestamp in the future (a wrong clock) the age of an event is unknown.
        return timestamp > at or (
            timestamp <= min_age_cutoff and (seq <= max_events_cutoff or timestamp < max_age_cutoff)
        )

    # Prune only a contiguous range from the oldest event: `trimmed_seq` means that all events up to it are pruned.
    prunable = list(takewhile(is_prunable, oldest))
    # Prune an event of unknown age only if a later event is old enough, or if there are too many events.
    while prunable and prunable[-1][1] > at and prunable[-1][0] > max_events_cutoff:
        prunable.pop()
    if not prunable:
        return 0
    through = prunable[-1][0]
    with transaction.atomic():
        Log.objects.filter(pk=1, trimmed_seq__lt=through).update(trimmed_seq=through)
        EventRoom.objects.filter(event__lte=through)._raw_delete("default")
        Event.objects.filter(seq__lte=through)._raw_delete("default")
    return len(prunable)
