"""The identity of an installation."""

from __future__ import annotations

import secrets

from django.db import models

_IDENTIFIER_BYTES = 6


def new_identifier() -> str:
    """Return a random identifier of 12 hexadecimal digits."""
    return secrets.token_hex(_IDENTIFIER_BYTES)


class Installation(models.Model):
    """What sets the processes of this database apart from others on the same broker, in a single row."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    identifier = models.CharField(
        max_length=2 * _IDENTIFIER_BYTES,
        default=new_identifier,
        editable=False,
        help_text="Part of the names of its queues; never changes.",
    )

    class Meta:
        constraints = (models.CheckConstraint(condition=models.Q(id=1), name="orchestration_installation_single"),)

    def __str__(self) -> str:
        return self.identifier
