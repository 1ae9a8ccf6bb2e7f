"""`manage.py drain_pool POOL`: stop a pool from accepting new workflows."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from orchestration import services
from orchestration.management.output import EscapingCommand
from orchestration.management.service_errors import readable_service_errors
from orchestration.services.pools import check_pool_accepts_workflows


class Command(EscapingCommand):
    """Drain a pool and, with --move-to, reassign its waiting workflows."""

    help = (
        "Drains a pool: it accepts no new workflows. Running stages finish. Waiting workflows stay in the pool until "
        "it has run them or, with --move-to, are moved to another pool."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("pool", help="The pool to drain.")
        parser.add_argument("--move-to", metavar="POOL", help="The pool to which the waiting workflows are moved.")

    def handle(self, *args: Any, pool: str, move_to: str | None, **options: Any) -> None:
        if move_to == pool:
            raise CommandError(f"--move-to {move_to}: expected a pool other than the one to drain")
        with readable_service_errors():
            if move_to is not None:
                # Check the target first: a failed move must not leave the pool drained.
                check_pool_accepts_workflows(move_to)
            services.drain_pool(pool_id=pool)
            if move_to is not None:
                moved = services.reassign_workflows(pool_id=pool, to_pool_id=move_to)
                self.stdout.write(f"Moved {moved} {'workflow' if moved == 1 else 'workflows'} to {move_to}")
        self.stdout.write(f"Pool {pool} is draining: it accepts no new workflows")
