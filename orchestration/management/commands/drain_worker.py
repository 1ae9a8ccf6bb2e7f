"""`manage.py drain_worker WORKER`: replace a worker process without a loss."""

from __future__ import annotations

import time
from typing import Any, Final

from django.core.management.base import CommandError, CommandParser

from orchestration import services
from orchestration.db.retry import retry_while_unavailable
from orchestration.management.output import EscapingCommand
from orchestration.management.service_errors import readable_service_errors
from orchestration.models import Worker, WorkerStatus

_POLL_SECONDS: Final = 0.2


class Command(EscapingCommand):
    """Drain the process of a worker and, with --wait, wait until it runs no stage."""

    help = (
        "Drains the process of a worker: none of its workers starts another stage, and each is offline when its stage "
        "ends. The process can then be stopped without a loss. It is active again after a restart."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("worker", help="The id of any worker of the process, such as local-box-1.")
        parser.add_argument("--wait", action="store_true", help="Return when all workers of the process are offline.")

    def handle(self, *args: Any, worker: str, wait: bool, **options: Any) -> None:
        with readable_service_errors():
            drained = services.drain_worker(worker_id=worker)
            names = ", ".join(each.pk for each in drained)
            self.stdout.write(f"Draining: {names}")
            if not wait or not drained:
                return
            process = drained[0].process
            # A worker that is offline belongs to no process.
            is_online = Worker.objects.filter(process=process).exists
            while retry_while_unavailable(is_online, timeout_seconds=None, report=self.write_line):
                time.sleep(_POLL_SECONDS)
            lost = Worker.objects.filter(
                pk__in=[each.pk for each in drained], status=WorkerStatus.OFFLINE, draining=True
            )
            if lost_names := ", ".join(lost.order_by("pk").values_list("pk", flat=True)):
                raise CommandError(
                    f"{lost_names}: marked offline without heartbeats before it had drained. Its process may be "
                    "suspended, and still run a stage; it continues to drain when it returns."
                )
        self.stdout.write(f"Drained: {names}. Stop or restart the process now.")

    def write_line(self, line: str) -> None:
        self.stderr.write(line)
