"""`manage.py reopen_pool POOL`: a pool that was drained takes on new workflows again."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from orchestration import services
from orchestration.management.database_errors import readable_database_errors


class Command(BaseCommand):
    help = "Lets a pool that was drained take on new workflows again. What was moved to another pool stays there."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("pool", help="The pool to reopen.")

    def handle(self, *args: Any, pool: str, **options: Any) -> None:
        with readable_database_errors():
            try:
                services.reopen_pool(pool_id=pool)
            except services.ServiceError as refusal:
                raise CommandError(str(refusal)) from refusal
        self.stdout.write(f"The pool {pool} takes on new workflows again")
