"""The clock of the database, which all machines share. Leases, heartbeats and due times use no other clock."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import connections
from django.utils import timezone


def database_now(using: str = "default") -> datetime:
    """Return the current time of the database. With SQLite that is the clock of the machine."""
    connection = connections[using]
    if connection.vendor != "postgresql":
        return timezone.now()
    with connection.cursor() as cursor:
        # Not now(): it returns the start of the transaction, before any wait for locks.
        cursor.execute("SELECT clock_timestamp()")
        now: datetime = cursor.fetchone()[0]
    return now


def milliseconds_between(start: datetime, end: datetime) -> int:
    """Return the whole milliseconds from start to end; 0 if clock skew between machines reverses them."""
    return max(0, (end - start) // timedelta(milliseconds=1))
