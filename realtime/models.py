"""The event log: what was announced, in the order it was committed."""

from __future__ import annotations

import uuid

from django.db import models
from django.utils import timezone


def _new_epoch() -> str:
    return uuid.uuid4().hex


class Event(models.Model):
    """One announced change, written in the transaction of the change itself."""

    seq = models.BigAutoField(primary_key=True, help_text="Position in the log, equal to commit order.")
    message_id = models.UUIDField(default=uuid.uuid4, editable=False, help_text="The same in every room.")
    name = models.CharField(max_length=64, help_text="workflow.started, …")
    data = models.TextField(help_text="The event's data, as JSON text.")
    timestamp = models.DateTimeField(default=timezone.now, help_text="When it happened.")

    class Meta:
        ordering = ("-seq",)

    def __str__(self) -> str:
        return f"{self.seq} {self.name}"


class EventRoom(models.Model):
    """That an event is delivered through a room. Every event is in `global` besides, which needs no row."""

    pk = models.CompositePrimaryKey("room", "event")
    room = models.CharField(max_length=140)
    # Rows of both tables are written together and pruned together: a database constraint would cost and prove nothing.
    event = models.ForeignKey(
        Event, on_delete=models.DO_NOTHING, related_name="rooms", db_column="seq", db_index=False, db_constraint=False
    )

    class Meta:
        # Which rooms have anything new since a position, from the index alone.
        indexes = (models.Index(fields=["event", "room"], name="room_by_seq"),)

    def __str__(self) -> str:
        return f"{self.event_id} in {self.room}"


class Log(models.Model):
    """The log itself: a single row.

    `epoch` names it. A new database is a new log; whoever restores an older backup calls `manage.py renew_epoch`,
    because positions clients remember may belong to events that no longer exist.
    """

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    epoch = models.CharField(max_length=32, default=_new_epoch, editable=False)
    trimmed_seq = models.BigIntegerField(default=0, help_text="Events up to this position are pruned.")

    class Meta:
        constraints = (models.CheckConstraint(condition=models.Q(id=1), name="one_log"),)

    def __str__(self) -> str:
        return self.epoch
