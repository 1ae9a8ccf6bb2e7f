"""How long the answers to requests with an Idempotency-Key are kept."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from orchestration.db.clock import database_now
from realtime.models import StoredAnswer

KEPT_HOURS: Final = 24
"""How long a stored answer is repeated."""

_MAX_PRUNED: Final = 10_000
"""Answers that are deleted in one transaction."""


def oldest_repeated() -> datetime:
    """Return the time since which answers are repeated."""
    return database_now() - timedelta(hours=KEPT_HOURS)


def prune_stored_answers() -> int:
    """Delete answers that are repeated no longer, and return their number. Call it until it returns 0."""
    old = StoredAnswer.objects.filter(created_at__lt=oldest_repeated()).order_by("created_at")
    deleted, _ = StoredAnswer.objects.filter(pk__in=list(old.values_list("pk", flat=True)[:_MAX_PRUNED])).delete()
    return deleted
