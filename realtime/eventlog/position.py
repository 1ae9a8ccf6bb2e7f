"""The position of the event log, and its epoch."""

from __future__ import annotations

from dataclasses import dataclass, field

from django.db.models import Subquery
from django.db.models.functions import Coalesce, Greatest

from realtime.models import Event, Log


@dataclass(frozen=True, slots=True)
class Position:
    """The position of the event log at one moment.

    Attributes:
        seq: Position of the newest event, pruned or not; 0 if there was none yet.
        epoch: Name of the log.
        trimmed_seq: Events up to this position are pruned.
        bus_key: Key of the log for messages between processes. Never sent to a client.
    """

    seq: int
    epoch: str
    trimmed_seq: int
    bus_key: str = field(repr=False, compare=False)


def current_position() -> Position:
    """Read the position of the log in one query. Create the row of a new log."""
    newest = Subquery(Event.objects.order_by("-seq").values("seq")[:1])
    log = Log.objects.annotate(seq=Greatest(Coalesce(newest, 0), "trimmed_seq")).filter(pk=1)
    found = log.values_list("seq", "epoch", "trimmed_seq", "bus_key").first()
    if found is None:
        Log.objects.get_or_create(pk=1)
        found = log.values_list("seq", "epoch", "trimmed_seq", "bus_key").get()
    return Position(*found)
