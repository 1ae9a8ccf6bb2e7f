"""`manage.py prune_log`: delete old events from the log now, as servers do by themselves from time to time."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from orchestration.management.database_errors import readable_database_errors
from realtime.eventlog.position import current_position
from realtime.eventlog.retention import prune_events
from realtime.management.arguments import bounds_of, number, whole_number
from realtime.protocol.messages import utc_now
from realtime.runtime import retention


class Command(BaseCommand):
    help = (
        "Deletes the oldest events from the log. Servers do it by themselves from time to time; this is for now, or "
        "for keeping less this once. Events of the last MAHAVISHNU_MIN_LOG_AGE_SECONDS always stay. A client that was "
        "away for longer than what is kept cannot resume and is told so."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--max-events",
            type=whole_number(**bounds_of("max_log_events")),  # type: ignore[arg-type]
            metavar="N",
            help="Keep at most so many (default: MAHAVISHNU_MAX_LOG_EVENTS).",
        )
        parser.add_argument(
            "--max-age-seconds",
            type=number(**bounds_of("max_log_age_seconds")),
            metavar="S",
            help="Keep none that is older (default: MAHAVISHNU_MAX_LOG_AGE_SECONDS).",
        )

    def handle(self, *args: Any, max_events: int | None, max_age_seconds: float | None, **options: Any) -> None:
        kept = retention(settings.MAHAVISHNU_LIMITS)
        if max_events is not None:
            kept = replace(kept, max_events=max_events)
        if max_age_seconds is not None:
            kept = replace(kept, max_age=timedelta(seconds=max_age_seconds))
        at = utc_now()
        pruned = 0
        with readable_database_errors():
            while some := prune_events(kept, at=at):
                pruned += some
            position = current_position()
        self.stdout.write(f"Pruned {pruned} events; kept are those after {position.trimmed_seq}, up to {position.seq}.")
