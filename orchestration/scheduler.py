"""The scheduler: it acts on stages, workflows, workers and pools that are due.

Several schedulers may run at once, and each may be killed at any time. A pass selects due rows by partial indexes. A
service makes each change and checks the row again under lock, so if two schedulers find the same row, only one of them
changes it.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final, TypeVar

from django.db import Error as DatabaseError
from django.db import connection
from django.db.models import Model, QuerySet

from orchestration import services
from orchestration.db.clock import database_now
from orchestration.db.compiled import CompiledSelect
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
    """One scheduler. Each job handles the rows of one kind that are due at `now`, and returns how many it changed."""

    def __init__(self) -> None:
        self._limits = engine_limits()
        # During a database outage no heartbeat can be recorded: expire nothing until workers had time for new ones.
        self._expire_from = time.monotonic() + max(self._limits.lease_seconds, self._limits.worker_timeout_seconds)
        self._failing = False
        self.jobs: list[Callable[[datetime], int]] = [
            self.queue_retries,
            self.redispatch,
            self.time_out_workflows,
            # Expire workers before leases: a worker without heartbeats is marked offline, not in error.
            self.expire_workers,
            self.expire_leases,
            self.publish_pool_metrics,
        ]
        self._heartbeat_at = 0.0

    def run(self, *, stopped: Callable[[float], bool]) -> None:
        """Run passes in a loop. `stopped(seconds)` waits that long and returns whether to stop."""
        while True:
            changed = self.run_once()
            if stopped(0.0 if changed >= MAX_ROWS_PER_PASS else self._limits.scheduler_interval_seconds):
                with contextlib.suppress(DatabaseError):
                    services.record_scheduler_heartbeat(alive=False)
                return

    def run_once(self) -> int:
        """Make one pass over everything that is due, and return how many rows changed."""
        try:
            self._record_heartbeat()
            now = database_now()
            changed = sum(job(now) for job in self.jobs)
        except DatabaseError as error:
            connection.close()
            if not self._failing:
                logger.warning("Database unavailable (%r); the scheduler keeps trying", error)
            self._failing = True
            self._expire_from = time.monotonic() + self._limits.lease_seconds
            return 0
        if self._failing:
            logger.warning("Database available again; the scheduler continues")
        self._failing = False
        return changed

    def _record_heartbeat(self) -> None:
        if time.monotonic() - self._heartbeat_at >= HEARTBEAT_SECONDS:
            services.record_scheduler_heartbeat(alive=True)
            self._heartbeat_at = time.monotonic()

    def publish_pool_metrics(self, now: datetime) -> int:
        """Publish the pool metrics that were throttled."""
        since = now - timedelta(seconds=self._limits.pool_status_interval_seconds)
        return sum(services.publish_pool_metrics(pool.pk) for pool in _DIRTY_POOLS.rows(since))

    def queue_retries(self, now: datetime) -> int:
        """Queue the stages whose retry is due."""
        return sum(services.queue_retry(stage.pk, due_before=now) for stage in _DUE_RETRIES.rows(now))

    def redispatch(self, now: datetime) -> int:
        """Redispatch unclaimed stages whose messages the broker no longer holds."""
        found: dict[str, list[Message]] = {}
        for stage in _UNCLAIMED_STAGES.rows(now):
            found.setdefault(stage.pool_id or "", []).append(message_for(stage))
        redispatched = 0
        for pool_id, messages in found.items():
            stage_ids = [message.stage_id for message in messages]
            missing = services.missing_messages(pool_id, held=queued_messages(pool_id))
            if missing == 0:
                services.extend_redispatch(stage_ids, now=now)
                continue
            if missing is not None and missing > len(messages):
                services.recheck_pool(pool_id, now=now)
            services.delay_redispatch(stage_ids, now=now)
            lost = messages if missing is None else messages[:missing]
            if lost:
                accepted = dispatch(lost)
                redispatched += accepted
                logger.info("Redispatched %d queued stages of pool %s", accepted, pool_id)
        return redispatched

    def time_out_workflows(self, now: datetime) -> int:
        """Time out the workflows whose deadline has passed."""
        return sum(_time_out(workflow.pk) for workflow in _LATE_WORKFLOWS.rows(now))

    def expire_leases(self, now: datetime) -> int:
        """End the attempts whose lease has expired."""
        if time.monotonic() < self._expire_from:
            return 0
        return sum(services.expire_lease(stage.pk, expired_before=now) for stage in _EXPIRED_LEASES.rows(now))

    def expire_workers(self, now: datetime) -> int:
        """Mark workers without recent heartbeats offline."""
        if time.monotonic() < self._expire_from:
            return 0
        since = now - timedelta(seconds=self._limits.worker_timeout_seconds)
        workers = _SILENT_WORKERS.rows(since)
        return sum(services.expire_worker(worker.pk, no_heartbeat_since=since) for worker in workers)


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


def _time_out(workflow_id: str) -> bool:
    try:
        services.time_out_workflow(workflow_id=workflow_id)
    except services.ServiceError as error:  # It has just finished.
        logger.debug("%s", error)
        return False
    return True
