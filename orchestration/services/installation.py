"""The identifier of the installation that this process belongs to."""

from __future__ import annotations

from django.db import connection

from orchestration.models import Installation

_identifier: str | None = None


def installation_id() -> str:
    """Return the identifier of this installation: 12 hexadecimal digits.

    The first call reads it from the database. Processes that are forked later inherit it.

    Raises:
        django.db.Error: if the first call cannot read it.
    """
    global _identifier
    if _identifier is not None:
        return _identifier
    # The migration has created the row; `manage.py flush` deletes it.
    installation, created = Installation.objects.get_or_create(pk=1)
    if not (created and connection.in_atomic_block):
        # A row of a transaction that is rolled back would be known to this process alone.
        _identifier = installation.identifier
    return installation.identifier
