"""`manage.py prune_workers`: remove offline workers now. Schedulers also remove them regularly."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.management.base import CommandError, CommandParser

from orchestration.limits import engine_limits
from orchestration.management.arguments import duration
from orchestration.management.database_errors import readable_database_errors
from orchestration.management.output import EscapingCommand
from orchestration.services.worker_retention import WorkerRetention, WorkerSweep


class Command(EscapingCommand):
    """Remove offline workers."""

    help = (
        "Removes offline workers, those first that went offline first. Schedulers do so regularly "
        "(MAHAVISHNU_MAX_OFFLINE_WORKER_AGE_SECONDS); use this command to remove them now, or more. Workers that run "
        "a stage, or whose process is alive, are never removed. Stages keep the id of the worker that ran them."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--older-than",
            type=duration,
            metavar="7d",
            help="Remove only workers that went offline longer ago than this.",
        )
        parser.add_argument("--pool", metavar="POOL", help="Remove only workers of this pool.")
        parser.add_argument("--dry-run", action="store_true", help="Only count what would be removed.")

    def handle(self, *args: Any, older_than: timedelta | None, pool: str | None, dry_run: bool, **options: Any) -> None:
        default = timedelta(seconds=engine_limits().max_offline_worker_age_seconds)
        retention = WorkerRetention(max_age=default if older_than is None else older_than, pool_id=pool)
        with readable_database_errors():
            if dry_run:
                self.stdout.write(f"Would remove {retention.removable().count()} offline workers")
                return
            sweep = WorkerSweep(retention)
            removed = sum(iter(sweep.prune_block, None))
        self.stdout.write(f"Removed {removed} offline workers")
        if sweep.undeletable:
            raise CommandError(
                f"Cannot remove {sweep.undeletable_count} offline workers, such as {sweep.undeletable}. "
                "Delete the rows that refer to them first, or change on_delete of their foreign keys."
            )
