"""The loop of the supervisor: checks all slots of a worker process, sends heartbeats, and ends after its parent."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from django.db import Error as DatabaseError
from django.db import connection

from orchestration import services
from orchestration.db.postgres_session import BACKGROUND_LOCK_TIMEOUT_SECONDS, limit_idle_transactions, limit_lock_waits
from orchestration.db.retry import is_contended, is_unavailable
from orchestration.db.stop_hooks import run_stop_hooks
from orchestration.limits import engine_limits
from orchestration.log_throttle import OutageLog
from orchestration.models import FailureReason, Stage
from orchestration.processes import is_alive
from orchestration.services.attempt_failures import WORKER_STOPPED
from orchestration.worker.slot_table import SlotTable
from orchestration.worker.supervisor.slot_monitor import SlotMonitor

logger = logging.getLogger(__name__)

WORKER_ENDED: Final = "The worker process ended"
"""The error of an attempt whose worker process was killed."""

_EXIT_SECONDS: Final = 4.0
"""How long a stopping worker process may take to exit once it runs no stage."""


class WorkerSupervisor:
    """Supervises the workers of one worker process.

    Args:
        table: The slot table of the process.
        parent_pid: The process.
        process: The id of this run of the process, as the workers' rows store it.
        name: The prefix of the workers' ids.
        pool_id: The pool that they serve.
    """

    def __init__(self, table: SlotTable, *, parent_pid: int, process: str, name: str, pool_id: str) -> None:
        limit_lock_waits(BACKGROUND_LOCK_TIMEOUT_SECONDS)
        self._table = table
        self._parent_pid = parent_pid
        self._process = process
        self._pool_id = pool_id
        self._limits = engine_limits()
        limit_idle_transactions(self._limits.lease_seconds)
        self._monitors = [
            SlotMonitor(table.slot(index), name=name, process=process, pool_id=pool_id) for index in range(table.size)
        ]
        self._heartbeat_at = 0.0
        self._outage = OutageLog(
            logger,
            failed="Database unavailable (%r); the worker supervisor retries",
            recovered="Database available again; the worker supervisor continues",
        )
        self._failing: set[str] = set()
        self._join_rejected = False
        self._join_at = 0.0
        self._idle_since: float | None = None
        self._signalled_at: float | None = None

    def run(self) -> None:
        """Check all slots in a loop until the parent has ended, or has stopped its children; then clean up."""
        while self._has_parent and not self._table.has_stopped:
            self.check()
            if self._is_stopping:
                self._end_hung_parent()
            time.sleep(self._limits.supervisor_interval_seconds)
        self.clean_up()

    def check(self) -> None:
        """Check every slot once. What fails is repeated in the next check.

        A slot that fails does not keep the others from their checks, or the workers from their heartbeats.
        """
        try:
            # Before any query: processes are also watched while the database is unavailable.
            for number, monitor in enumerate(self._monitors, start=1):
                self._attempt(f"watch the process of slot {number}", monitor.detect_crash)
            self._attempt("kill overdue stages", self._kill_overdue)
            for number, monitor in enumerate(self._monitors, start=1):
                self._attempt("record heartbeats", self._send_heartbeats)
                self._attempt(f"check slot {number}", partial(self._check_slot, monitor))
            self._attempt("record heartbeats", self._send_heartbeats)
        except DatabaseError as error:
            if not is_unavailable(error):
                raise
            self._outage.record_failure(error)
            connection.close()
            # A heartbeat is due in the next check: without any query, it would not show that the database is back.
            self._heartbeat_at = 0.0
        else:
            self._outage.record_success()

    def _attempt(self, action: str, call: Callable[[], None]) -> None:
        """Call this part of a check. If it fails, log that once, until it succeeds.

        Raises:
            django.db.Error: if the database is unavailable.
        """
        try:
            call()
        except Exception as error:
            if is_unavailable(error) and not is_contended(error):
                raise
            if action not in self._failing:
                logger.exception("Cannot %s; the worker supervisor tries again in each check", action)
            self._failing.add(action)
        else:
            self._failing.discard(action)

    def clean_up(self) -> None:
        """Kill what the process left behind, take its workers offline and return their stages to the queue."""
        for monitor in self._monitors:
            monitor.kill_process()
            monitor.kill_process_group()
        deadline = time.monotonic() + self._limits.lease_seconds
        reason, text = (
            (FailureReason.RELEASED, WORKER_STOPPED) if self._is_stopping else (FailureReason.LOST, WORKER_ENDED)
        )
        while True:
            try:
                for monitor in self._monitors:
                    if monitor.has_killed:
                        monitor.record_crash()
                    monitor.leave_pool(error=text, reason=reason)
                break
            except DatabaseError as error:
                if not is_unavailable(error):
                    raise
                connection.close()
                if time.monotonic() > deadline:
                    break  # The scheduler marks the workers offline: their heartbeats are missing.
                time.sleep(self._limits.heartbeat_seconds)
        run_stop_hooks()

    @property
    def _has_parent(self) -> bool:
        return os.getppid() == self._parent_pid

    @property
    def _is_stopping(self) -> bool:
        return self._table.stopping_since_ns != 0

    def _check_slot(self, monitor: SlotMonitor) -> None:
        if monitor.has_crashed:
            # Record crashes only while the parent lives: if the children died with it, their workers must go offline
            # instead. A killed parent may still exist for a while as a zombie. Its first thread has already ended: that
            # killed the children.
            if not monitor.has_just_died and self._has_parent and is_alive(self._parent_pid):
                monitor.record_crash()
        elif self._is_stopping or self._table.draining:
            monitor.leave_if_idle()
        else:
            monitor.leave_if_vacant()
            monitor.replace_process()
            if monitor.needs_worker:
                self._join_pool(monitor)

    def _join_pool(self, monitor: SlotMonitor) -> None:
        """Register a worker for a slot. If its pool rejects it, try again after a heartbeat interval."""
        now = time.monotonic()
        if now < self._join_at:
            return
        try:
            monitor.join_pool()
        except services.ServiceError as error:
            if not self._join_rejected:
                logger.warning("Cannot join pool %s; the slots stay without workers: %s", self._pool_id, error)
            self._join_rejected = True
            self._join_at = now + self._limits.heartbeat_seconds
        else:
            self._join_rejected = False

    def _kill_overdue(self) -> None:
        running = [(monitor, attempt) for monitor in self._monitors if (attempt := monitor.slot.running) is not None]
        if not running:
            return
        # Before any query: the limits also apply while the database is unavailable.
        for monitor, attempt in running:
            monitor.kill_if_overdue(attempt, stopping_seconds=self._table.stopping_seconds)
        ids = [attempt.stage_id for _, attempt in running]
        rows = Stage.objects.filter(pk__in=ids).values_list("pk", "status", "attempt")
        stored = {pk: (status, number) for pk, status, number in rows}
        for monitor, attempt in running:
            monitor.kill_if_ended(attempt, stored.get(attempt.stage_id))

    def _send_heartbeats(self) -> None:
        now = time.monotonic()
        if now - self._heartbeat_at < self._limits.heartbeat_seconds:
            return
        slots = {monitor.slot.worker_id: monitor.slot for monitor in self._monitors if monitor.slot.worker_id}
        if slots:
            attempts = [attempt for monitor in self._monitors if (attempt := monitor.slot.running) is not None]
            running = [(attempt.stage_id, attempt.attempt) for attempt in attempts]
            online = services.record_heartbeats(process=self._process, worker_ids=list(slots), running=running)
            if any(online.values()) and not self._table.draining:
                logger.info("Worker process %d drains; it starts no further stage", self._parent_pid)
                self._table.draining = True
            for worker_id in slots.keys() - online.keys():
                logger.warning("Worker %s was marked offline (missed heartbeats); re-registering", worker_id)
                slots[worker_id].worker_id = ""
        self._heartbeat_at = now

    def _end_hung_parent(self) -> None:
        """Signal a stopping parent that runs no stage and does not exit.

        After Celery's pool has lost a child, it can wait forever if the shutdown is requested just as a task ends.
        """
        now = time.monotonic()
        if any(monitor.is_running for monitor in self._monitors):
            self._idle_since = None
            return
        self._idle_since = self._idle_since or now
        if now - self._idle_since > _EXIT_SECONDS and self._signalled_at is None:
            self._signal_parent(signal.SIGQUIT, now)
        elif self._signalled_at is not None and now - self._signalled_at > _EXIT_SECONDS:
            self._signal_parent(signal.SIGKILL, now)

    def _signal_parent(self, number: signal.Signals, now: float) -> None:
        logger.warning("Worker process %d is still running after shutdown; sending %s", self._parent_pid, number.name)
        os.kill(self._parent_pid, number)
        self._signalled_at = now
