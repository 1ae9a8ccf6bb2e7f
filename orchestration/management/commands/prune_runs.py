"""`manage.py prune_runs`: delete finished runs now. Schedulers also prune them regularly."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.management.base import CommandError, CommandParser

from orchestration.limits import engine_limits
from orchestration.management.arguments import count, duration
from orchestration.management.database_errors import readable_database_errors
from orchestration.management.output import EscapingCommand
from orchestration.models import FINISHED_WORKFLOW_STATUSES
from orchestration.services.retention import PruningSweep, RunRetention, retentions_of


class Command(EscapingCommand):
    """Prune finished runs."""

    help = (
        "Deletes finished workflows with their stages and failed attempts, oldest first. Schedulers do so regularly "
        "(MAHAVISHNU_MAX_RUN_AGE_SECONDS, MAHAVISHNU_MAX_FINISHED_RUNS); use this command to prune now, or more. "
        "With --older-than and --keep, a run is deleted only if neither keeps it. Unfinished workflows are never "
        "deleted."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--older-than", type=duration, metavar="30d", help="Delete only runs that finished longer ago than this."
        )
        parser.add_argument("--keep", type=count, metavar="N", help="Keep the newest N of the selected runs.")
        parser.add_argument(
            "--status",
            action="append",
            choices=FINISHED_WORKFLOW_STATUSES,
            help="Delete only runs with this status. May be repeated.",
        )
        parser.add_argument("--pool", metavar="POOL", help="Delete only runs of this pool.")
        parser.add_argument("--dry-run", action="store_true", help="Only count what would be deleted.")

    def handle(
        self,
        *args: Any,
        older_than: timedelta | None,
        keep: int | None,
        status: list[str] | None,
        pool: str | None,
        dry_run: bool,
        **options: Any,
    ) -> None:
        if older_than is None and keep is None:
            if status or pool:
                raise CommandError(
                    "Expected --older-than or --keep with --status and --pool; --keep 0 deletes them all"
                )
            retentions = retentions_of(engine_limits())
        else:
            statuses = status or FINISHED_WORKFLOW_STATUSES
            retentions = (RunRetention(max_age=older_than, max_runs=keep, statuses=statuses, pool_id=pool),)
        with readable_database_errors():
            if dry_run:
                # Of the same runs, each retention prunes the oldest.
                prunable = max(retention.prunable().count() for retention in retentions)
                self.stdout.write(f"Would delete {prunable} finished runs")
                return
            pruned = 0
            sweep = PruningSweep(*retentions)
            while (block := sweep.prune_block()) is not None:
                pruned += block
        self.stdout.write(f"Deleted {pruned} finished runs")
        if sweep.undeletable:
            raise CommandError(
                f"Cannot delete {sweep.undeletable_count} finished runs, such as {sweep.undeletable}. "
                "Delete the rows that refer to them first, or change on_delete of their foreign keys."
            )
