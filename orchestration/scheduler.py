"""The scheduler: it acts on stages, workflows, workers and pools that are due.

Several schedulers may run at once, and each may be killed at any time. A pass selects due rows by partial indexes. A
service makes each change and checks the row again under lock, so if two schedulers find the same row, only one of them
changes it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, TypeVar

from django.db import Error as DatabaseError
from django.db import connection
from django.db.models import Model, QuerySet

from orchestration import services
from orchestration.db.clock import database_now
from orchestration.db.compiled import CompiledSelect
from orchestration.db.retry import is_unavailable
from orchestration.db.stop_hooks import run_stop_hooks
from orchestration.dispatch import Message, dispatch, queued_messages
from orchestration.limits import engine_limits
from orchestration.models import Pool, Stage, Worker, Workflow
from orchestration.services.advance import message_for

logger = logging.getLogger(__name__)

Row = TypeVar("Row", bound=Model)

HEARTBEAT_SECONDS = 0.5
"""How often a scheduler records a heartbeat."""

MAX_ROWS_PER_PASS = 200
"""Maximum number of rows of each kind in one pass, so that no kind delays the others."""


class Scheduler:
    """One scheduler. Each job handles the rows of one kind that are due at `now`, and returns how many it changed.

    If a row or a job fails, the others are handled, and the next pass tries again. Only an unavailable database ends a
    pass.
    """

    def __init__(self) -> None:
        self._limits = engine_limits()
        self._database_failing = False
        # What failed in the last pass, and what has failed in this one.
        self._failed_before: set[str] = set()
        self._failed: set[str] = set()
        self.jobs: list[Callable[[datetime], int]] = [
            self.record_heartbeat,
            self.queue_retries,
            self.redispatch,
            self.time_out_workflows,
            # Expire workers before leases: a worker without heartbeats is marked offline, not in error.
            self.expire_workers,
            self.expire_leases,
            self.publish_pool_metrics,
        ]
        self._heartbeat_at = 0.0
        # The database clock in the last pass, and the monotonic clock at that moment.
        self._clocks: tuple[datetime, float] | None = None
        self._postpone_expiry()

    def run(self, *, stopped: Callable[[float], bool]) -> None:
        """Run passes in a loop. `stopped(seconds)` waits that long and returns whether to stop."""
        while True:
            changed = self.run_once()
            if stopped(0.0 if changed >= MAX_ROWS_PER_PASS else self._limits.scheduler_interval_seconds):
                self._record_stop()
                run_stop_hooks()
                return

    def run_once(self) -> int:
        """Make one pass over everything that is due, and return how many rows changed."""
        try:
            now = database_now()
            self._detect_clock_step(now)
            changed = sum(self._attempt(f"run the job {job.__name__}", partial(job, now)) for job in self.jobs)
        except DatabaseError as error:
            if not is_unavailable(error):
                raise
            connection.close()
            if not self._database_failing:
                logger.warning("Database unavailable (%r); the scheduler keeps trying", error)
            self._database_failing = True
            self._postpone_expiry()
            return 0
        if self._database_failing:
            logger.warning("Database available again; the scheduler continues")
        self._database_failing = False
        self._failed_before, self._failed = self._failed, set()
        return changed

    def record_heartbeat(self, now: datetime) -> int:
        """Record a heartbeat of the scheduler if one is due."""
        if time.monotonic() - self._heartbeat_at >= HEARTBEAT_SECONDS:
            services.record_scheduler_heartbeat(alive=True)
            self._heartbeat_at = time.monotonic()
        return 0

    def publish_pool_metrics(self, now: datetime) -> int:
        """Publish the pool metrics that were throttled."""
        since = now - timedelta(seconds=self._limits.pool_status_interval_seconds)
        return self._attempt_each(
            "publish the metrics of pool", _DIRTY_POOLS.rows(since), services.publish_pool_metrics
        )

    def queue_retries(self, now: datetime) -> int:
        """Queue the stages whose retry is due."""
        queue = partial(services.queue_retry, due_before=now)
        return self._attempt_each("queue the retry of stage", _DUE_RETRIES.rows(now), queue)

    def redispatch(self, now: datetime) -> int:
        """Redispatch unclaimed stages whose messages the broker no longer holds."""
        found: dict[str, list[Message]] = {}
        for stage in _UNCLAIMED_STAGES.rows(now):
            found.setdefault(stage.pool_id or "", []).append(message_for(stage))
        return sum(
            self._attempt(f"redispatch the stages of pool {pool_id}", partial(_redispatch, pool_id, messages, now))
            for pool_id, messages in found.items()
        )

    def time_out_workflows(self, now: datetime) -> int:
        """Time out the workflows whose deadline has passed."""
        return self._attempt_each("time out workflow", _LATE_WORKFLOWS.rows(now), _time_out)

    def expire_leases(self, now: datetime) -> int:
        """End the attempts whose lease has expired."""
        if time.monotonic() < self._expire_from:
            return 0
        expire = partial(services.expire_lease, expired_before=now)
        return self._attempt_each("end the expired attempt at stage", _EXPIRED_LEASES.rows(now), expire)

    def expire_workers(self, now: datetime) -> int:
        """Mark workers without recent heartbeats offline."""
        if time.monotonic() < self._expire_from:
            return 0
        since = now - timedelta(seconds=self._limits.worker_timeout_seconds)
        expire = partial(services.expire_worker, no_heartbeat_since=since)
        return self._attempt_each("mark offline the worker", _SILENT_WORKERS.rows(since), expire)

    def _attempt_each(self, action: str, rows: Iterable[Model], change: Callable[[Any], int]) -> int:
        """Call `change` with the primary key of each row, and return how many rows changed."""
        return sum(self._attempt(f"{action} {row.pk}", partial(change, row.pk)) for row in rows)

    def _attempt(self, action: str, change: Callable[[], int]) -> int:
        """Return the result of `change`; 0 if it fails. The failure is logged in the first pass in which it fails.

        Raises:
            django.db.Error: if the database is unavailable.
        """
        try:
            return change()
        except Exception as error:
            if is_unavailable(error):
                raise
            if action not in self._failed_before | self._failed:
                logger.exception("Cannot %s; the scheduler tries again in each pass", action)
            self._failed.add(action)
            return 0

    def _detect_clock_step(self, now: datetime) -> None:
        """Postpone expiry if the database clock was set forward: heartbeats and leases then seem to be old."""
        at = time.monotonic()
        if self._clocks is not None:
            step_seconds = (now - self._clocks[0]).total_seconds() - (at - self._clocks[1])
            # A heartbeat interval is at most half of both.
            if step_seconds > min(self._limits.lease_seconds, self._limits.worker_timeout_seconds) / 2:
                grace_seconds = self._postpone_expiry()
                logger.warning(
                    "The database clock advanced by %.0f s more than this machine's; "
                    "the scheduler expires no worker or lease for %g s",
                    step_seconds,
                    grace_seconds,
                )
        self._clocks = now, at

    def _postpone_expiry(self) -> float:
        """Expire nothing until workers had time for new heartbeats. Return how many seconds that is."""
        grace_seconds = max(self._limits.lease_seconds, self._limits.worker_timeout_seconds)
        self._expire_from = time.monotonic() + grace_seconds
        return grace_seconds

    def _record_stop(self) -> None:
        try:
            services.record_scheduler_heartbeat(alive=False)
        except DatabaseError as error:
            # Without this record, the last heartbeat expires soon.
            if not is_unavailable(error):
                raise


def _due(model: type[Row], due_column: str, *columns: str) -> CompiledSelect[Row]:
    """Select the rows that are due, oldest first. Compiled, because it runs in every pass and mostly finds nothing."""

    def build(now: datetime) -> QuerySet[Row]:
        due = model._default_manager.filter(**{f"{due_column}__lte": now})
        return due.order_by(due_column, "pk").only("pk", *columns)[:MAX_ROWS_PER_PASS]

    return CompiledSelect(build, datetime)


_DIRTY_POOLS: Final = _due(Pool, "metrics_dirty_since")
_DUE_RETRIES: Final = _due(Stage, "retry_at")
_UNCLAIMED_STAGES: Final = _due(Stage, "dispatch_due_at", "attempt", "pool")
_LATE_WORKFLOWS: Final = _due(Workflow, "deadline_at")
_EXPIRED_LEASES: Final = _due(Stage, "lease_expires_at")
_SILENT_WORKERS: Final = _due(Worker, "heartbeat_at")


def _redispatch(pool_id: str, messages: list[Message], now: datetime) -> int:
    stage_ids = [message.stage_id for message in messages]
    missing = services.missing_messages(pool_id, held=queued_messages(pool_id))
    services.delay_redispatch(stage_ids, now=now)
    if missing == 0:
        return 0
    accepted = dispatch(messages if missing is None else messages[:missing])
    logger.info("Redispatched %d queued stages of pool %s", accepted, pool_id)
    return accepted


def _time_out(workflow_id: str) -> bool:
    try:
        services.time_out_workflow(workflow_id=workflow_id)
    except services.ServiceError as error:  # It has just finished.
        logger.debug("Skipped a timeout: %s", error)
        return False
    return True
