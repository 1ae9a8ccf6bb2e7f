"""The event log: every published change, in commit order."""

from __future__ import annotations

import secrets
import uuid

from django.db import models
from django.utils import timezone


def _new_epoch() -> str:
    return uuid.uuid4().hex


def _new_bus_key() -> str:
    return secrets.token_hex(32)


class Event(models.Model):
    """One change, written to the log in the transaction that made it."""

    seq = models.BigAutoField(primary_key=True, help_text="Position in the log, equal to commit order.")
    message_id = models.UUIDField(
        default=uuid.uuid4, editable=False, help_text="UUID of the event, the same in every room."
    )
    name = models.CharField(max_length=64, help_text="Name of the event, such as workflow.started.")
    data = models.TextField(help_text="The event's data, as JSON text.")
    timestamp = models.DateTimeField(default=timezone.now, help_text="When the change happened.")

    class Meta:
        ordering = ("-seq",)

    def __str__(self) -> str:
        return f"{self.seq} {self.name}"


class EventRoom(models.Model):
    """One event in one room that delivers it. Every event is also in `global`, which has no rows here."""

    pk = models.CompositePrimaryKey("room", "event")
    room = models.CharField(max_length=240)
    # Rows of both tables are written together and pruned together, so a database constraint would only cost time.
    event = models.ForeignKey(
        Event, on_delete=models.DO_NOTHING, related_name="rooms", db_column="seq", db_index=False, db_constraint=False
    )
    previous_seq = models.BigIntegerField(
        null=True,
        help_text="No event of the room lies between this position and the event. Unknown in rows of older versions.",
    )

    class Meta:
        # A covering index for "which rooms have new events after this position?".
        indexes = (models.Index(fields=["event", "room"], name="room_by_seq"),)

    def __str__(self) -> str:
        return f"{self.event_id} in {self.room}"


class LogSample(models.Model):
    """How far the log was at one moment of its running time: see `realtime.eventlog.log_age`."""

    seq = models.BigIntegerField(help_text="Position of the newest event at that moment.")
    running_seconds = models.FloatField(help_text="Seconds in which a server process ran, up to that moment.")

    def __str__(self) -> str:
        return f"{self.seq} at {self.running_seconds:g} s"


class Log(models.Model):
    """The state of the event log: a single row.

    `epoch` is the name of the log. A new database gets a new epoch. After restoring an older backup, run
    `manage.py renew_epoch`: clients may remember positions of events that no longer exist.

    `bus_key` is the key of the messages between processes: a process that can read it can forge events.
    """

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    epoch = models.CharField(max_length=32, default=_new_epoch, editable=False)
    bus_key = models.CharField(max_length=64, default=_new_bus_key, editable=False)
    trimmed_seq = models.BigIntegerField(default=0, help_text="Events up to this position are pruned.")

    class Meta:
        constraints = (models.CheckConstraint(condition=models.Q(id=1), name="one_log"),)

    def __str__(self) -> str:
        return self.epoch


class StoredAnswer(models.Model):
    """The answer to a request with an Idempotency-Key, committed with the changes of the request."""

    user_id = models.CharField(max_length=255, help_text="Whose key it is; empty for a client without credentials.")
    path = models.CharField(max_length=512)
    key = models.CharField(max_length=64)
    body_hash = models.CharField(max_length=64, help_text="SHA-256 of the request, to detect another one.")
    status = models.PositiveSmallIntegerField(help_text="The HTTP status of the answer.")
    compressed_body = models.BinaryField(help_text="The answer (zlib).")
    size_bytes = models.PositiveIntegerField(help_text="What the row takes, about.")
    created_at = models.DateTimeField(help_text="When it was stored (database clock).")

    class Meta:
        constraints = (
            models.UniqueConstraint(name="realtime_stored_answer_unique", fields=["user_id", "path", "key"]),
        )
        indexes = (
            models.Index(name="realtime_stored_answer_age", fields=["created_at"]),
            # Covering, for the bytes of each user: reading the rows takes 20 times as long on SQLite.
            models.Index(name="realtime_stored_answer_bytes", fields=["user_id", "size_bytes"]),
        )

    def __str__(self) -> str:
        return f"{self.key} of {self.path}"


class Revocation(models.Model):
    """Tokens that are valid no longer: those of a user issued before a time, or one by its id.

    A row is never changed. It is deleted once no token can be that old.
    """

    user_id = models.CharField(max_length=128, blank=True, help_text="Revoke tokens of this user.")
    token_id = models.CharField(max_length=128, blank=True, help_text="Revoke the token with this id (jti).")
    issued_before = models.DateTimeField(help_text="Of a user, revoke only the tokens issued before this time.")
    expires_at = models.DateTimeField(help_text="From then on, the tokens have expired by themselves.")

    class Meta:
        ordering = ("-pk",)
        indexes = (
            models.Index(fields=["user_id"], name="revoked_user"),
            models.Index(fields=["token_id"], name="revoked_token"),
        )
        constraints = (
            models.CheckConstraint(
                condition=models.Q(user_id="") ^ models.Q(token_id=""), name="revoked_user_or_token"
            ),
        )

    def __str__(self) -> str:
        return f"token {self.token_id}" if self.token_id else f"tokens of {self.user_id}"


class WriteProbe(models.Model):
    """A single row that the health check writes, because only a commit proves that changes can be stored."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    written_at = models.DateTimeField(help_text="The last write (database clock).")

    class Meta:
        constraints = (models.CheckConstraint(condition=models.Q(id=1), name="one_write_probe"),)

    def __str__(self) -> str:
        return f"written at {self.written_at}"
