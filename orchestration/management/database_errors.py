"""What a command says when the database does not do its part."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.core.management.base import CommandError
from django.db import Error as DatabaseError


@contextmanager
def readable_database_errors() -> Iterator[None]:
    """End the command with one line in place of a stack trace.

    Raises:
        CommandError: if the database raised inside.
    """
    try:
        yield
    except DatabaseError as error:
        reason = " ".join(str(error).split())
        raise CommandError(
            f"The database cannot be used: {reason}. DATABASE_URL names it, and `manage.py migrate` prepares it."
        ) from error
