"""Prune the event log: which events are deleted, and in which order.

Servers prune by the age that they measured themselves (`LogPruner`): no wrong clock makes them delete young events. The
command `prune_log` prunes by the timestamps of the events (`prune_events`), as its user asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Self

from django.db import transaction

from realtime.eventlog.log_age import LogAge
from realtime.eventlog.position import current_position
from realtime.limits import Limits
from realtime.models import Event, EventRoom, Log

_PRUNE_CHUNK_EVENTS = 1000
_PRUNE_MAX_CHUNKS = 1000

_PRUNER_MAX_CHUNKS = 10
"""Chunks of one call of `LogPruner.prune`: the end of the process and the checkpoints wait for it."""


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


class LogPruner:
    """Prunes the log for one server process. It uses no wall clock."""

    def __init__(self, retention: Retention) -> None:
        self._retention = retention
        self._age = LogAge()

    def prune(self, *, now: float) -> int:
        """Delete events that need not be kept, oldest first, and return how many.

        A call deletes at most 10,000. Call again until it returns 0.

        Args:
            now: The monotonic clock of this process, in seconds.
        """
        retention = self._retention
        min_age, max_age = retention.min_age.total_seconds(), retention.max_age.total_seconds()
        samples = self._age.sample(now=now, keep_seconds=max(min_age, max_age))
        newest = samples[-1].seq

        def newest_older_than(seconds: float) -> int:
            return max((sample.seq for sample in samples if sample.age_seconds >= seconds), default=0)

        through = min(newest_older_than(min_age), max(newest - retention.max_events, newest_older_than(max_age)))
        pruned = 0
        for _ in range(_PRUNER_MAX_CHUNKS):
            oldest = Event.objects.filter(seq__lte=through).order_by("seq")
            chunk = list(oldest.values_list("seq", flat=True)[:_PRUNE_CHUNK_EVENTS])
            if chunk:
                _delete_through(chunk[-1])
            pruned += len(chunk)
            if len(chunk) < _PRUNE_CHUNK_EVENTS:
                break
        return pruned


def prune_events(retention: Retention, *, at: datetime) -> int:
    """Delete events that need not be kept by their timestamps, oldest first, and return how many.

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
    _delete_through(prunable[-1][0])
    return len(prunable)


def _delete_through(through: int) -> None:
    with transaction.atomic():
        Log.objects.filter(pk=1, trimmed_seq__lt=through).update(trimmed_seq=through)
        EventRoom.objects.filter(event__lte=through)._raw_delete("default")
        Event.objects.filter(seq__lte=through)._raw_delete("default")
