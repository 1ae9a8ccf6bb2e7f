"""`manage.py create_pool POOL`: create a pool, where starts and workers may not (`MAHAVISHNU_CREATE_POOLS`)."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from orchestration import services
from orchestration.management.output import EscapingCommand
from orchestration.management.service_errors import readable_service_errors


class Command(EscapingCommand):
    """Create a pool."""

    help = "Creates an active pool without workers."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("pool", help="The id of the pool.")

    def handle(self, *args: Any, pool: str, **options: Any) -> None:
        with readable_service_errors():
            services.create_pool(pool_id=pool)
        self.stdout.write(f"Created pool {pool}")
