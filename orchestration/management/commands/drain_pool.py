"""`manage.py drain_pool POOL`: the pool takes on nothing new; what it has is done there, or moved to another pool."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from orchestration import services
from orchestration.management.database_errors import readable_database_errors
from orchestration.models import PoolStatus
from orchestration.services.pools import check_pool_accepts


class Command(BaseCommand):
    help = (
        "Lets a pool take on no new workflows. What runs there finishes; what waits is done there in its turn or, with "
        "--move-to, in another pool."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("pool", help="The pool to drain.")
        parser.add_argument("--move-to", metavar="POOL", help="Where what waits is to be done.")

    def handle(self, *args: Any, pool: str, move_to: str | None, **options: Any) -> None:
        if move_to == pool:
            raise CommandError(f"--move-to {move_to}: expected another pool than the one to drain")
        with readable_database_errors():
            try:
                if move_to is not None:
                    # Nothing is drained that cannot be moved.
                    check_pool_accepts("new workflows", pool_id=move_to, statuses=[PoolStatus.ACTIVE])
                services.drain_pool(pool_id=pool)
                if move_to is not None:
                    moved = services.reassign_workflows(pool_id=pool, to_pool_id=move_to)
                    self.stdout.write(f"Moved {moved} {'workflow' if moved == 1 else 'workflows'} to {move_to}")
            except services.ServiceError as refusal:
                raise CommandError(str(refusal)) from refusal
        self.stdout.write(f"The pool {pool} takes on nothing new")
