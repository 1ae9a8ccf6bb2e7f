"""`manage.py create_pool POOL`: create a pool, where starts and workers may not (`MAHAVISHNU_CREATE_POOLS`)."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from orchestration import services
from orchestration.management.database_errors import readable_database_errors
from orchestration.management.output import EscapingCommand


class Command(EscapingCommand):
    """Create a pool."""

    help = "Creates an active pool without workers."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("pool", help="The id of the pool.")

    def handle(self, *args: Any, pool: str, **options: Any) -> None:
        with readable_database_errors():
            try:
                services.create_pool(pool_id=pool)
            except services.ServiceError as error:
                raise CommandError(str(error)) from error
        self.stdout.write(f"Created pool {pool}")
