"""`manage.py prune_log`: delete old events from the log now. Servers also prune it regularly."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from orchestration.db.clock import database_now
from orchestration.management.database_errors import readable_database_errors
from orchestration.management.output import EscapingCommand
from realtime.eventlog.position import current_position
from realtime.eventlog.retention import Retention, prune_events
from realtime.management.arguments import bounds_of, number, whole_number


class Command(EscapingCommand):
    """Prune the event log."""

    help = (
        "Deletes the oldest events from the log. Servers prune it regularly; use this command to prune it now, or to "
        "keep less than usual. Events of the last MAHAVISHNU_MIN_LOG_AGE_SECONDS are never deleted. Clients cannot "
        "resume from before the oldest kept event."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--max-events",
            type=whole_number(**bounds_of("max_log_events")),  # type: ignore[arg-type]
            metavar="N",
            help="Keep at most N events (default: MAHAVISHNU_MAX_LOG_EVENTS).",
        )
        parser.add_argument(
            "--max-age-seconds",
            type=number(**bounds_of("max_log_age_seconds")),
            metavar="S",
            help="Keep no events older than S seconds (default: MAHAVISHNU_MAX_LOG_AGE_SECONDS).",
        )

    def handle(self, *args: Any, max_events: int | None, max_age_seconds: float | None, **options: Any) -> None:
        retention = Retention.from_limits(settings.MAHAVISHNU_LIMITS)
        if max_events is not None:
            retention = replace(retention, max_events=max_events)
        if max_age_seconds is not None:
            retention = replace(retention, max_age=timedelta(seconds=max_age_seconds))
        pruned = 0
        with readable_database_errors():
            at = database_now()
            while batch := prune_events(retention, at=at):
                pruned += batch
            position = current_position()
        self.stdout.write(
            f"Pruned {pruned} events; kept events after seq {position.trimmed_seq}, up to seq {position.seq}"
        )
