"""`manage.py run_scheduler`: run a scheduler until SIGTERM or SIGINT. Several may run at once."""

from __future__ import annotations

import logging
import signal
import time
from typing import Any

from orchestration.management.output import EscapingCommand
from orchestration.processes import close_memory
from orchestration.scheduler import Scheduler

logger = logging.getLogger(__name__)


class Command(EscapingCommand):
    """Run a scheduler."""

    help = (
        "Queues retries, times out workflows, and recovers stages lost with a worker or a broker message. At least one "
        "scheduler must run; several may, on any machine."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        close_memory()
        signals: list[int] = []
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: signals.append(number))
        # Not written to standard output: the scheduler runs on when nothing can be written there.
        logger.info("Scheduler started")

        def wait_or_stop(seconds: float) -> bool:
            time.sleep(seconds)
            return bool(signals)

        Scheduler().run(stopped=wait_or_stop)
