"""Where the log stands: its newest event, its epoch, and what is pruned."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import transaction
from django.db.models import Subquery
from django.db.models.functions import Coalesce, Greatest

from realtime.models import Event, Log


@dataclass(frozen=True, slots=True)
class Position:
    """Where the log stands.

    Attributes:
        seq: Its newest event, 0 while there was none.
        epoch: Which log this is.
        trimmed_seq: Events up to this position are pruned.
    """

    seq: int
    epoch: str
    trimmed_seq: int


def current_position() -> Position:
    """Where the log stands, in one query."""
    newest = Subquery(Event.objects.order_by("-seq").values("seq")[:1])
    log = Log.objects.annotate(seq=Greatest(Coalesce(newest, 0), "trimmed_seq")).filter(pk=1)
    found = log.values_list("seq", "epoch", "trimmed_seq").first()
    if found is None:
        Log.objects.get_or_create(pk=1)
        found = log.values_list("seq", "epoch", "trimmed_seq").get()
    return Position(*found)


def renew_epoch() -> str:
    """Give the log a new name, so that every client starts over. Returns it."""
    with transaction.atomic():
        newest = current_position().seq
        Log.objects.filter(pk=1).delete()
        return Log.objects.create(pk=1, trimmed_seq=newest).epoch
