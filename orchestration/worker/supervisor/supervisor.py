"""What a keeper does at each look at its slots."""

from __future__ import annotations

import logging
import os
import signal
import time
from dataclasses import dataclass

from django.db import Error as DatabaseError
from django.db import connection

from orchestration import services
from orchestration.limits import engine_limits
from orchestration.models import Stage, StageStatus
from orchestration.processes import is_alive, kill_group, kill_tree, resume_tree, suspend_tree
from orchestration.worker.slot_table import Running, SharedSlot, SlotTable

logger = logging.getLogger(__name__)

_VACANT_SECONDS = 2.0
"""How long a slot may be without a process, between one that ended as it should and the next."""

_END_SECONDS = 4.0
"""How long a worker process that was told to stop may take to end when it has nothing left to do."""

_LAST_WORDS_SECONDS = 5.0
"""How much longer than one that was cancelled a stage may take to end that has reported its end already."""


@dataclass
class _Watch:
    """What the keeper knows of one slot.

    Attributes:
        pid: The process that was last seen in it.
        vacant_since: When it ended as it should, by the monotonic clock.
        unwanted: The attempt that is not wanted any more, and since when.
        died: How the process came to its end, until that is recorded.
    """

    pid: int = 0
    vacant_since: float | None = None
    unwanted: tuple[Running, float] | None = None
    died: _Death | None = None


@dataclass(frozen=True)
class _Death:
    pid: int
    running: Running | None
    reason: str | None
    error: str


class WorkerSupervisor:
    """Speaks for the workers of one process."""

    def __init__(self, table: SlotTable, *, parent_pid: int, process: str, name: str, pool_id: str) -> None:
        self._table = table
        self._parent_pid = parent_pid
        self._process = process
        self._name = name
        self._pool_id = pool_id
        self._limits = engine_limits()
        self._watches = [_Watch() for _ in range(table.size)]
        self._beat_at = 0.0
        self._database_failing = False
        self._idle_since: float | None = None
        self._told_to_end: float | None = None

    def run(self) -> None:
        """Look again and again until the parent has ended, and then see to it that nothing of it is left."""
        while self._has_parent:
            self.look()
            if self._stopping:
                self._see_to_its_end()
            time.sleep(self._limits.supervisor_interval_seconds)
        self.clean_up()

    def look(self) -> None:
        """Look at every slot once. While the database does not answer, nothing is forgotten and all is tried again."""
        try:
            self._end_what_is_late()
            for slot, watch in self._slots():
                self._look_at(slot, watch)
            self._beat()
        except DatabaseError as error:
            if not self._database_failing:
                logger.warning("The keeper's database does not answer (%r)", error)
            self._database_failing = True
            connection.close()
        else:
            self._database_failing = False

    def clean_up(self) -> None:
        """End what the process left behind, take its workers offline and hand back what they ran."""
        for slot, _ in self._slots():
            if slot.pid:
                kill_tree(slot.pid)
            _end_group(slot)
        deadline = time.monotonic() + self._limits.lease_seconds
        while True:
            try:
                for slot, _ in self._slots():
                    self._leave(slot, error="The worker process ended")
                break
            except DatabaseError:
                # Whoever reads the heartbeats finds out in the end.
                connection.close()
                if time.monotonic() > deadline:
                    break
                time.sleep(self._limits.heartbeat_seconds)
        self._table.path.unlink(missing_ok=True)

    def _see_to_its_end(self) -> None:
        """End a process that was told to stop, has nothing left to do and does not end.

        Celery's pool can wait for ever if it is told to stop at the moment at which a task ends, after it has lost a
        child.
        """
        now = time.monotonic()
        if any(slot.running is not None for slot, _ in self._slots()):
            self._idle_since = None
            return
        self._idle_since = self._idle_since or now
        if now - self._idle_since > _END_SECONDS and self._told_to_end is None:
            logger.warning("The worker process %d does not end: telling it to drop everything", self._parent_pid)
            os.kill(self._parent_pid, signal.SIGQUIT)
            self._told_to_end = now
        elif self._told_to_end is not None and now - self._told_to_end > _END_SECONDS:
            logger.warning("The worker process %d does not end: ending it", self._parent_pid)
            os.kill(self._parent_pid, signal.SIGKILL)
            self._told_to_end = now

    def _slots(self) -> list[tuple[SharedSlot, _Watch]]:
        return [(self._table.slot(index), watch) for index, watch in enumerate(self._watches)]

    def _look_at(self, slot: SharedSlot, watch: _Watch) -> None:
        pid = slot.pid
        if watch.died is not None:
            # If all of them died with the parent, that is no crash of a slot: the workers are to be offline. What is
            # left of a parent that is killed may take a while to end, but children are told to die by its first
            # thread, which has ended then.
            if self._has_parent and is_alive(self._parent_pid):
                self._record_death(slot, watch, watch.died)
            return
        if watch.pid and pid != watch.pid and slot.running is not None:
            watch.died = _Death(watch.pid, slot.running, "lost", "The worker process died")
        elif pid and not is_alive(pid):
            watch.died = _Death(pid, slot.running, "lost", "The worker process died")
        if watch.died is not None:
            # Recorded at the next look: a parent that is killed loses its threads one by one, and its children are
            # told to die with the thread that started them, a moment before the parent itself is gone.
            return
        if pid != watch.pid and pid:
            watch.pid, watch.vacant_since = pid, None
        if self._stopping:
            self._look_at_stopping(slot, watch)
        elif pid == 0:
            self._look_at_vacant(slot, watch)
        elif not slot.worker_id and slot.running is None:
            slot.worker_id = services.join_pool(name=self._name, process=self._process, pool_id=self._pool_id)

    def _look_at_vacant(self, slot: SharedSlot, watch: _Watch) -> None:
        now = time.monotonic()
        watch.vacant_since = watch.vacant_since or now
        if slot.worker_id and watch.pid and now - watch.vacant_since > _VACANT_SECONDS:
            self._leave(slot, error="The worker was stopped")

    def _look_at_stopping(self, slot: SharedSlot, watch: _Watch) -> None:
        running = slot.running
        if running is None:
            self._leave(slot, error="The worker was stopped")
            return
        told_since_seconds = (time.monotonic_ns() - self._table.stopping_since_ns) / 1e9
        if told_since_seconds > self._limits.shutdown_grace_seconds:
            self._kill(slot, watch, running, reason="lost", error="The worker was stopped")

    @property
    def _has_parent(self) -> bool:
        return os.getppid() == self._parent_pid

    @property
    def _stopping(self) -> bool:
        return self._table.stopping_since_ns != 0

    def _record_death(self, slot: SharedSlot, watch: _Watch, death: _Death) -> None:
        kill_group(death.pid)
        _end_group(slot)
        if slot.worker_id:
            running = death.running
            services.crash_worker(
                worker_id=slot.worker_id,
                process=self._process,
                error=death.error,
                ran=None if running is None else (running.stage_id, running.attempt),
                reason=death.reason,
            )
        if death.running is not None and slot.running == death.running:
            slot.running = None
        if slot.pid == death.pid:
            slot.pid = 0
        watch.died, watch.pid, watch.unwanted = None, slot.pid, None

    def _end_what_is_late(self) -> None:
        running = [(slot, watch, slot.running) for slot, watch in self._slots()]
        ids = [run.stage_id for _, _, run in running if run is not None]
        if not ids:
            return
        rows = Stage.objects.filter(pk__in=ids).values_list("pk", "status", "attempt")
        stored = {pk: (status, attempt) for pk, status, attempt in rows}
        for slot, watch, run in running:
            if run is None or watch.died is not None:
                continue
            late_ns = time.monotonic_ns() - run.started_ns - run.timeout_ms * 1_000_000
            if run.timeout_ms and late_ns > 0:
                error = f"The stage took longer than {run.timeout_ms / 1000:g} s"
                self._kill(slot, watch, run, reason="timed_out", error=error)
                continue
            grace_seconds = self._grace_seconds(run, stored.get(run.stage_id))
            if grace_seconds is None:
                continue
            slot.request_cancel(run)
            if watch.unwanted is None or watch.unwanted[0] != run:
                watch.unwanted = (run, time.monotonic())
            if time.monotonic() - watch.unwanted[1] > grace_seconds:
                self._kill(slot, watch, run, reason=None, error="The run ended")

    def _grace_seconds(self, run: Running, stored: tuple[str, int] | None) -> float | None:
        """How long an attempt may go on that is not wanted any more; None for one that is."""
        grace_seconds = self._limits.cancel_grace_seconds
        if stored is None:
            return grace_seconds
        status, attempt = stored
        if attempt < run.attempt:
            return None  # It is about to be claimed, or was not to be.
        if attempt == run.attempt and status == StageStatus.RUNNING:
            return None
        if attempt == run.attempt and status in (StageStatus.COMPLETED, StageStatus.FAILED):
            return grace_seconds + _LAST_WORDS_SECONDS
        return grace_seconds

    def _kill(self, slot: SharedSlot, watch: _Watch, running: Running, *, reason: str | None, error: str) -> None:
        pid = slot.pid
        if pid:
            suspend_tree(pid)
            if slot.running != running:
                resume_tree(pid)  # It has just ended by itself.
                return
            logger.warning("Ending process %d: %s (stage %d)", pid, error, running.stage_id)
            kill_tree(pid)
        watch.died = _Death(pid, running, reason, error)

    def _beat(self) -> None:
        now = time.monotonic()
        if now - self._beat_at < self._limits.heartbeat_seconds:
            return
        ids = {slot.worker_id: slot for slot, _ in self._slots() if slot.worker_id}
        if ids:
            running = [run for slot, _ in self._slots() if (run := slot.running) is not None]
            held = [(run.stage_id, run.attempt) for run in running]
            mine = services.record_heartbeats(process=self._process, worker_ids=list(ids), running=held)
            for worker_id in set(ids) - mine:
                logger.warning("The worker %s was taken for dead; it joins again", worker_id)
                ids[worker_id].worker_id = ""
        self._beat_at = now

    def _leave(self, slot: SharedSlot, *, error: str) -> None:
        if slot.worker_id:
            services.leave_pool(worker_id=slot.worker_id, process=self._process, error=error)
            slot.worker_id = ""


def _end_group(slot: SharedSlot) -> None:
    """End what a stage started in a group of its own, and could not end itself."""
    if slot.group:
        kill_tree(slot.group)
        slot.group = 0
