"""`manage.py run_scheduler`: finds what is due and what was lost, until it is stopped. Safe to run several."""

from __future__ import annotations

import signal
import time
from typing import Any

from django.core.management.base import BaseCommand

from orchestration.scheduler import Scheduler


class Command(BaseCommand):
    help = (
        "Queues retries, times out runs, and runs again what was lost with a worker or a broker. One has to run; "
        "several may, on any machines."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        told: list[int] = []
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: told.append(number))
        self.stdout.write("The scheduler runs")
        self.stdout.flush()

        def stopped(after_seconds: float) -> bool:
            time.sleep(after_seconds)
            return bool(told)

        Scheduler().run(stopped=stopped)
