"""`manage.py renew_epoch`: give the event log a new epoch after restoring an older backup."""

from __future__ import annotations

from typing import Any

from orchestration.management.database_errors import readable_database_errors
from orchestration.management.output import EscapingCommand
from realtime.eventlog.epoch import renew_epoch


class Command(EscapingCommand):
    """Give the event log a new epoch."""

    help = (
        "Gives the event log a new epoch. Run it after restoring an older backup of the database: the positions that "
        "clients remember may then refer to missing or different events. Servers disconnect all clients, and "
        "no client can resume from an earlier position."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        with readable_database_errors():
            epoch = renew_epoch()
        self.stdout.write(f"New epoch of the event log: {epoch}")
