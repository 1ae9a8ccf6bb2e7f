"""`manage.py remove_pool POOL`: delete a pool that nothing needs, such as one with a misspelled name."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from orchestration import services
from orchestration.management.output import EscapingCommand
from orchestration.management.service_errors import readable_service_errors


class Command(EscapingCommand):
    """Remove a pool."""

    help = "Deletes a pool without unfinished workflows, online workers and finished runs, with its offline workers."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("pool", help="The pool to remove.")

    def handle(self, *args: Any, pool: str, **options: Any) -> None:
        with readable_service_errors():
            services.remove_pool(pool_id=pool)
        self.stdout.write(f"Removed pool {pool}")
