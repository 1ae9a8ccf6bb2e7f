"""Run an observer: receive, report, and connect again whenever the broker is lost."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from django.utils import timezone

from orchestration.db.stop_hooks import run_stop_hooks
from orchestration.log_throttle import OutageLog
from orchestration.observers.celery.events import WorkerReply
from orchestration.observers.celery.observer import Observer
from orchestration.observers.celery.receiver import Receiver
from orchestration.observers.celery.reports import ReportSink, StoredTask

logger = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.1
"""How long events are collected before they are reported in one transaction."""

FIRST_PAUSE_SECONDS: Final = 0.5
"""The pause before the observer connects again. It doubles with each further failure."""

MAX_PAUSE_SECONDS: Final = 15.0

ASK_SECONDS: Final = 10.0
"""How often workers are asked for a heartbeat and, if that is allowed, to send the events of tasks."""

ASK_QUEUES_SECONDS: Final = 1.0
"""How often workers are asked for their queues and running tasks, while a new one has not answered."""

PROGRESS_SECONDS: Final = 10.0


class Runner:
    """One running observer.

    Args:
        enables_events: Whether to ask the workers to send events of tasks.
        show_progress: Called every `PROGRESS_SECONDS` with a line.
    """

    def __init__(
        self,
        *,
        receiver: Receiver,
        observer: Observer,
        sink: ReportSink,
        enables_events: bool,
        show_progress: Callable[[str], None],
    ) -> None:
        self._receiver = receiver
        self._observer = observer
        self._sink = sink
        self._enables_events = enables_events
        self._show_progress = show_progress
        self._outage = OutageLog(
            logger,
            failed="Observed broker unavailable (%s); the observer keeps trying, and events are missed",
            recovered="Observed broker available again; events of %.1f s may be missing",
        )
        self._rejected = 0
        self._asked = self._queues_asked = self._shown = float("-inf")
        self._received_at: float | None = None

    def restore(self, tasks: Sequence[StoredTask]) -> None:
        """Continue with what an earlier observer has stored."""
        self._observer.restore(tasks, now=timezone.now(), clock=time.monotonic())
        if tasks:
            logger.info("Observer continues with %d stored tasks; what happened since is missing", len(tasks))

    def run(self, *, stopped: Callable[[], bool]) -> None:
        """Observe until `stopped`."""
        pause_seconds = FIRST_PAUSE_SECONDS
        try:
            while not stopped():
                try:
                    self._receiver.connect()
                    self._begin()
                    pause_seconds = FIRST_PAUSE_SECONDS
                    while not stopped():
                        self._receive()
                except ConnectionError as error:
                    self._outage.record_failure(error)
                    self._report()
                    self._wait(pause_seconds, stopped)
                    pause_seconds = min(2 * pause_seconds, MAX_PAUSE_SECONDS)
        finally:
            self._receiver.close()
            run_stop_hooks()
        logger.info("Observer stopped: %s", self.progress())

    def progress(self) -> str:
        """Return what is observed now, on one line."""
        counts, workers = self._observer.counts, self._observer.workers
        trees, tasks = self._observer.size
        unusable = counts.invalid + counts.unknown + counts.dropped + workers.ignored
        return (
            f"{workers.online} workers online, {trees} unfinished workflows with {tasks} tasks; "
            f"{counts.events} events, {unusable} of them not shown; "
            f"{self._rejected} reports rejected, {counts.forgotten} workflows forgotten"
        )

    def _begin(self) -> None:
        self._ask()
        self._receiver.send_command("heartbeat")
        self._asked = self._queues_asked = time.monotonic()
        if self._received_at is None:
            logger.info("Observing Celery on %s", self._receiver.address)
        else:
            seconds = time.monotonic() - self._received_at
            self._outage.record_success(seconds)
            self._observer.note_gap(seconds, now=timezone.now(), clock=time.monotonic())
        self._received_at = time.monotonic()

    def _receive(self) -> None:
        for item in self._receiver.poll(POLL_SECONDS):
            now, clock = timezone.now(), time.monotonic()
            if isinstance(item, WorkerReply):
                self._observer.apply_reply(item, now=now, clock=clock)
            else:
                self._observer.apply(item, now=now, clock=clock)
        self._received_at = time.monotonic()
        self._observer.tick(now=timezone.now(), clock=self._received_at)
        self._report()
        if self._received_at - self._asked >= ASK_SECONDS:
            self._asked = self._received_at
            self._enable_events()
            self._receiver.send_command("heartbeat")
        is_due = self._received_at - self._queues_asked >= ASK_QUEUES_SECONDS
        if is_due and self._observer.workers.needs_queues(clock=self._received_at):
            self._queues_asked = self._received_at
            self._ask()

    def _ask(self) -> None:
        # In this order: a worker that has answered sends the events of all that its answer lacks.
        self._enable_events()
        self._receiver.send_command("active", replies=True)
        self._receiver.send_command("active_queues", replies=True)

    def _enable_events(self) -> None:
        if self._enables_events:
            self._receiver.send_command("enable_events")

    def _report(self) -> None:
        if reports := self._observer.take_reports():
            self._rejected += self._sink(reports)
        if time.monotonic() - self._shown >= PROGRESS_SECONDS:
            self._shown = time.monotonic()
            self._show_progress(self.progress())

    def _wait(self, seconds: float, stopped: Callable[[], bool]) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not stopped():
            time.sleep(POLL_SECONDS)
