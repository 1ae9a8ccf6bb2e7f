"""Database errors of management commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.core.management.base import CommandError
from django.db import Error as DatabaseError


@contextmanager
def readable_database_errors() -> Iterator[None]:
    """Replace the traceback of a database error with a one-line message.

    Raises:
        CommandError: if the block raised a database error.
    """
    try:
        yield
    except DatabaseError as error:
        reason = " ".join(str(error).split())
        raise CommandError(
            f"Cannot use the database: {reason}. Check DATABASE_URL, or run `manage.py migrate`."
        ) from error
