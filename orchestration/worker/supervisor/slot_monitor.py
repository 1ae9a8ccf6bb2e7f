"""Watches one slot of a worker process: registers its worker, kills overdue stages, and records crashes."""

from __future__ import annotations

import logging
import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from django.conf import settings

from orchestration import services
from orchestration.limits import engine_limits
from orchestration.models import FailureReason, StageStatus
from orchestration.processes import is_alive, kill_group, kill_tree, resume_tree, suspend_tree
from orchestration.services.attempt_failures import WORKER_DIED, WORKER_STOPPED, timeout_error
from orchestration.worker.slot_table import RunningAttempt, SharedSlot

logger = logging.getLogger(__name__)

_VACANT_SECONDS: Final = 2.0
"""How long a slot may have no process after a normal exit, until the next process fills it."""

_RESULT_GRACE_SECONDS: Final = 5.0
"""Extra grace for a stage that has already reported its result."""


@dataclass(frozen=True, kw_only=True)
class Crash:
    """A process that died or was killed, and is not recorded yet.

    Attributes:
        pid: The process.
        running: The attempt that it ran.
        reason: Why the attempt ended; None if it was cancelled: then nothing is recorded for it.
        error: The error of the attempt and of the worker.
    """

    pid: int
    running: RunningAttempt | None
    reason: FailureReason | None
    error: str


class SlotMonitor:
    """Watches one slot.

    Attributes:
        has_just_died: Whether the last check for a crash found one: the parent may have been killed too. The threads of
            a killed parent end one by one. The end of the thread that started the children kills them, a moment before
            the parent has ended.

    Args:
        slot: The slot.
        name: The prefix of its worker's id.
        process: The id of the worker process.
        pool_id: The pool of the worker.
    """

    def __init__(self, slot: SharedSlot, *, name: str, process: str, pool_id: str) -> None:
        self.slot = slot
        self.has_just_died = False
        self._name = name
        self._process = process
        self._pool_id = pool_id
        self._limits = engine_limits()
        self._pid = 0
        self._replaced_pid = 0
        self._vacant_since: float | None = None
        self._cancelled: tuple[RunningAttempt, float] | None = None
        self._crash: Crash | None = None

    @property
    def needs_worker(self) -> bool:
        """Whether the slot has a process that waits for a worker."""
        return bool(self.slot.pid) and not self.slot.worker_id and self.slot.running is None

    @property
    def has_crashed(self) -> bool:
        """Whether a crash waits to be recorded."""
        return self._crash is not None

    @property
    def is_running(self) -> bool:
        """Whether the slot's process runs an attempt: not one that has crashed."""
        running = self.slot.running
        return running is not None and (self._crash is None or self._crash.running != running)

    @property
    def has_killed(self) -> bool:
        """Whether that crash is a kill by this monitor. Another death may be due to the stop of the worker."""
        return self._crash is not None and self._crash.reason != FailureReason.LOST

    def detect_crash(self) -> None:
        """Find out whether the slot's process has died, and kill what it has left behind."""
        self.has_just_died = False
        if self._crash is not None:
            return
        # A recycled child may leave the slot to its successor between two reads, so an attempt names its process.
        running = self.slot.running
        pid = self.slot.pid if running is None else running.pid
        if not pid or is_alive(pid):
            return
        # Before the next reads: a successor that fills the slot after them must keep its process group.
        process_group = self.slot.process_group
        # Read again: the process may have begun an attempt, or ended one, between the first read and its death.
        running = self.slot.running
        if pid != (self.slot.pid if running is None else running.pid):
            return
        kill_group(pid)
        self.kill_process_group(process_group)
        self._crash = Crash(pid=pid, running=running, reason=FailureReason.LOST, error=WORKER_DIED)
        self.has_just_died = True

    def record_crash(self) -> None:
        """Store the crash.

        It kills nothing: this may be long after the death, when the database is available again. A successor may fill
        the slot by then, and another process may have the id.
        """
        crash = self._crash
        if crash is None:
            return
        running = crash.running
        if self.slot.worker_id:
            services.crash_worker(
                worker_id=self.slot.worker_id,
                process=self._process,
                error=crash.error,
                ran=None if running is None else (running.stage_id, running.attempt),
                reason=crash.reason,
            )
        if self.slot.pid == crash.pid:
            self.slot.pid = 0
        # Last: a successor that waits for this fills the slot at once.
        if running is not None and self.slot.running == running:
            self.slot.running = None
        self._crash, self._pid, self._cancelled = None, self.slot.pid, None

    def leave_if_vacant(self) -> None:
        """Take the slot's worker offline if the slot stays vacant."""
        pid = self.slot.pid
        self._note_pid(pid)
        if pid == 0:
            now = time.monotonic()
            self._vacant_since = self._vacant_since or now
            if self.slot.worker_id and self._pid and now - self._vacant_since > _VACANT_SECONDS:
                self.leave_pool(error=WORKER_STOPPED)

    def leave_if_idle(self) -> None:
        """Take the slot's worker offline if it runs nothing."""
        self._note_pid(self.slot.pid)
        if self.slot.running is None:
            self.leave_pool(error=WORKER_STOPPED)

    def join_pool(self) -> None:
        """Register a worker for the slot.

        Raises:
            ServiceError: if the pool is closed, or has no free id for the worker.
        """
        release: str = settings.MAHAVISHNU_RELEASE
        self.slot.worker_id = services.join_pool(
            name=self._name, process=self._process, pool_id=self._pool_id, release=release
        )

    def kill_if_overdue(self, running: RunningAttempt, *, stopping_seconds: float) -> None:
        """Kill the slot's process if its attempt exceeds its time limit, or the grace period of a shutdown.

        Args:
            running: The attempt that the slot runs.
            stopping_seconds: How long ago a shutdown was requested; 0 if it was not.
        """
        if not self.is_running:
            return
        if stopping_seconds > self._limits.shutdown_grace_seconds:
            self._kill(running, reason=FailureReason.RELEASED, error=WORKER_STOPPED)
            return
        overdue_ns = time.monotonic_ns() - running.started_ns - running.timeout_ms * 1_000_000
        if running.timeout_ms and overdue_ns > 0:
            error = timeout_error(running.timeout_ms / 1000)
            self._kill(running, reason=FailureReason.TIMED_OUT, error=error)

    def kill_if_ended(self, running: RunningAttempt, stored: tuple[str, int] | None) -> None:
        """Cancel an attempt that has ended in the database, and kill the slot's process if it still runs long after.

        Args:
            running: The attempt that the slot runs.
            stored: The status and the current attempt of its stage; None if the stage is deleted.
        """
        if not self.is_running:
            return
        grace_seconds = self._grace_seconds(running, stored)
        if grace_seconds is None:
            return
        self.slot.request_cancel(running)
        if self._cancelled is None or self._cancelled[0] != running:
            self._cancelled = (running, time.monotonic())
        if time.monotonic() - self._cancelled[1] > grace_seconds:
            self._kill(running, reason=None, error="The run ended")

    def leave_pool(self, *, error: str, reason: FailureReason = FailureReason.RELEASED) -> None:
        """Take the slot's worker offline, if it has one. An attempt that it still runs ends with this error."""
        if self.slot.worker_id:
            services.leave_pool(worker_id=self.slot.worker_id, process=self._process, error=error, reason=reason)
            self.slot.worker_id = ""

    def replace_process(self) -> None:
        """End a process that may run no further attempt, if it runs none now. The worker process starts another."""
        pid = self.slot.pid
        if self.slot.must_replace and pid and self.slot.running is None and pid != self._replaced_pid:
            self._replaced_pid = pid
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def kill_process(self) -> None:
        """Kill the slot's process, if it has one."""
        if self.slot.pid:
            kill_tree(self.slot.pid)

    def kill_process_group(self, process_group: int | None = None) -> None:
        """Kill the process group that a stage started and left running when it died.

        Args:
            process_group: The group, if a successor may fill the slot by now; None means that of the slot.
        """
        group = self.slot.process_group if process_group is None else process_group
        if group:
            kill_tree(group)
            if self.slot.process_group == group:
                self.slot.process_group = 0

    def _note_pid(self, pid: int) -> None:
        if pid not in (0, self._pid):
            self._pid, self._vacant_since = pid, None

    def _grace_seconds(self, running: RunningAttempt, stored: tuple[str, int] | None) -> float | None:
        """Return how long a cancelled attempt may still run; None if it is not cancelled."""
        grace_seconds = self._limits.cancel_grace_seconds
        if stored is None:
            return grace_seconds
        status, attempt = stored
        if attempt < running.attempt:
            return None  # The child is about to claim it, or to find that it is not due.
        if attempt == running.attempt and status == StageStatus.RUNNING:
            return None
        if attempt == running.attempt and status in (StageStatus.COMPLETED, StageStatus.FAILED):
            return grace_seconds + _RESULT_GRACE_SECONDS
        return grace_seconds

    def _kill(self, running: RunningAttempt, *, reason: FailureReason | None, error: str) -> None:
        pid = running.pid
        if pid:
            suspend_tree(pid)
            if self.slot.running != running:
                resume_tree(pid)  # The attempt has just ended.
                return
            kill_tree(pid)
            self.kill_process_group()
            logger.warning("Killed process %d, which ran stage %d: %s", pid, running.stage_id, error)
        self._crash = Crash(pid=pid, running=running, reason=reason, error=error)
