"""Prune the log: what is deleted, and in which order."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile

from django.db import transaction

from realtime.eventlog.position import current_position
from realtime.models import Event, EventRoom, Log

_PRUNE_CHUNK_EVENTS = 1000


_PRUNE_MAX_CHUNKS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """What is kept.

    Attributes:
        max_events: At most this many.
        max_age: None older than this.
        min_age: None younger than this is pruned, whatever their number: a relay heals from the log.
    """

    max_events: int
    max_age: timedelta
    min_age: timedelta


def prune_events(retention: Retention, *, at: datetime) -> int:
    """Delete what need not be kept, oldest first, in transactions of at most 1000 events. Returns how many."""
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
    too_many = newest - retention.max_events
    kept_from, may_go = at - retention.max_age, at - retention.min_age
    # Only an unbroken run from the oldest: `trimmed_seq` says that all up to it is pruned.

    def goes(row: tuple[int, datetime]) -> bool:
        # A moment that is yet to come (a clock was wrong) says nothing of an event's age.
        return row[1] > at or (row[1] <= may_go and (row[0] <= too_many or row[1] < kept_from))

    gone = list(takewhile(goes, oldest))
    # Such an event goes with a later one, which says that it is old, or because there are too many.
    while gone and gone[-1][1] > at and gone[-1][0] > too_many:
        gone.pop()
    if not gone:
        return 0
    through = gone[-1][0]
    with transaction.atomic():
        Log.objects.filter(pk=1, trimmed_seq__lt=through).update(trimmed_seq=through)
        EventRoom.objects.filter(event__lte=through)._raw_delete("default")
        Event.objects.filter(seq__lte=through)._raw_delete("default")
    return len(gone)
