"""`manage.py reopen_pool POOL`: let a drained pool accept new workflows again."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from orchestration import services
from orchestration.management.output import EscapingCommand
from orchestration.management.service_errors import readable_service_errors


class Command(EscapingCommand):
    """Reopen a drained pool."""

    help = "Reopens a drained pool: it accepts new workflows again. Workflows moved to another pool stay there."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("pool", help="The pool to reopen.")

    def handle(self, *args: Any, pool: str, **options: Any) -> None:
        with readable_service_errors():
            services.reopen_pool(pool_id=pool)
        self.stdout.write(f"Pool {pool} accepts new workflows again")
