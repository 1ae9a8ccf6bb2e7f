"""`manage.py reopen_pool POOL`: let a drained pool accept new workflows again."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from orchestration import services
from orchestration.management.database_errors import readable_database_errors
from orchestration.management.output import EscapingCommand


class Command(EscapingCommand):
    """Reopen a drained pool."""

    help = "Reopens a drained pool: it accepts new workflows again. Workflows moved to another pool stay there."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("pool", help="The pool to reopen.")

    def handle(self, *args: Any, pool: str, **options: Any) -> None:
        with readable_database_errors():
            try:
                services.reopen_pool(pool_id=pool)
            except services.ServiceError as error:
                raise CommandError(str(error)) from error
        self.stdout.write(f"Pool {pool} accepts new workflows again")
