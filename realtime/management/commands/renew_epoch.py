"""`manage.py renew_epoch`: give the event log a new name, after an older backup was restored."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from orchestration.management.database_errors import readable_database_errors
from realtime.eventlog.position import renew_epoch


class Command(BaseCommand):
    help = (
        "Gives the event log a new epoch. To be called after an older backup of the database was restored: positions "
        "that clients remember may belong to events that no longer exist, or to others. Every client that resumes is "
        "told to start over, and servers disconnect those that are connected."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        with readable_database_errors():
            epoch = renew_epoch()
        self.stdout.write(f"The epoch of the event log is now {epoch}.")
