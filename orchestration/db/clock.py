"""The clock that all machines share: the database's. Leases, heartbeats and whatever is due are told by it alone."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import connections
from django.utils import timezone


def database_now(using: str = "default") -> datetime:
    """Return the moment it is now. SQLite has no clock but that of its one machine."""
    connection = connections[using]
    if connection.vendor != "postgresql":
        return timezone.now()
    with connection.cursor() as cursor:
        # Not now(): that is the moment at which the transaction began, before it waited for its locks.
        cursor.execute("SELECT clock_timestamp()")
        moment: datetime = cursor.fetchone()[0]
    return moment


def milliseconds_between(start: datetime, end: datetime) -> int:
    """Return the whole milliseconds from start to end; 0 if the clocks of two machines put them in the wrong order."""
    return max(0, (end - start) // timedelta(milliseconds=1))
