"""`manage.py remove_pool POOL`: delete a pool that nothing needs, such as one with a misspelled name."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from orchestration import services
from orchestration.management.database_errors import readable_database_errors
from orchestration.management.output import EscapingCommand


class Command(EscapingCommand):
    """Remove a pool."""

    help = "Deletes a pool without unfinished workflows, online workers and finished runs, with its offline workers."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("pool", help="The pool to remove.")

    def handle(self, *args: Any, pool: str, **options: Any) -> None:
        with readable_database_errors():
            try:
                services.remove_pool(pool_id=pool)
            except services.ServiceError as error:
                raise CommandError(str(error)) from error
        self.stdout.write(f"Removed pool {pool}")
