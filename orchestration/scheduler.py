"""The scheduler: it finds what is due and what was lost. Several may run at once, and any may be killed at any time.

Each look asks for what is due, by indexes that hold nothing else, and leaves every change to a service that checks
again under lock: of two schedulers that find the same, one acts.
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
"""How often a scheduler gives a sign of life."""

MAX_PER_LOOK = 200
"""How many of each kind are handled in one look, so that none keeps the others waiting."""


class Scheduler:
    """One scheduler."""

    def __init__(self) -> None:
        self._limits = engine_limits()
        # When the database was away, so were all signs of life: nobody is given up before there was time for new ones.
        self._trusts_silence_at = time.monotonic() + max(
            self._limits.lease_seconds, self._limits.worker_timeout_seconds
        )
        self._failing = False
        self.duties: list[Callable[[datetime], int]] = [
            self.queue_retries,
            self.redispatch,
            self.time_out,
            # First the worker: what it ran ends with it, and it is offline rather than in error.
            self.expire_workers,
            self.expire_leases,
            self.publish_pool_metrics,
        ]
        self._signed_at = 0.0

    def run(self, *, stopped: Callable[[float], bool]) -> None:
        """Look again and again; `stopped(seconds)` waits so long and tells whether to stop."""
        while True:
            acted = self.look()
            if stopped(0.0 if acted >= MAX_PER_LOOK else self._limits.scheduler_interval_seconds):
                with contextlib.suppress(DatabaseError):
                    services.record_scheduler_heartbeat(alive=False)
                return

    def look(self) -> int:
        """See to everything that is due, and return how much that was."""
        try:
            self._sign()
            now = database_now()
            acted = sum(duty(now) for duty in self.duties)
        except DatabaseError as error:
            connection.close()
            if not self._failing:
                logger.warning("The scheduler's database does not answer (%r)", error)
            self._failing = True
            self._trusts_silence_at = time.monotonic() + self._limits.lease_seconds
            return 0
        if self._failing:
            logger.warning("The scheduler's database answers again")
        self._failing = False
        return acted

    def _sign(self) -> None:
        if time.monotonic() - self._signed_at >= HEARTBEAT_SECONDS:
            services.record_scheduler_heartbeat(alive=True)
            self._signed_at = time.monotonic()

    def publish_pool_metrics(self, now: datetime) -> int:
        since = now - timedelta(seconds=self._limits.pool_status_interval_seconds)
        return sum(services.publish_pool_metrics(pool.pk) for pool in _DIRTY_POOLS.rows(since))

    def queue_retries(self, now: datetime) -> int:
        return sum(services.queue_retry(stage.pk, due_before=now) for stage in _DUE_RETRIES.rows(now))

    def redispatch(self, now: datetime) -> int:
        """Tell the broker again of stages that nobody claimed, as far as it does not hold their messages still."""
        found: dict[str, list[Message]] = {}
        for stage in _UNCLAIMED_STAGES.rows(now):
            found.setdefault(stage.pool_id or "", []).append(message_for(stage))
        acted = 0
        for pool_id, messages in found.items():
            stage_ids = [message.stage_id for message in messages]
            missing = services.missing_messages(pool_id, held=queued_messages(pool_id))
            if missing == 0:
                services.extend_redispatch(stage_ids, now=now)
                continue
            if missing is not None and missing > len(messages):
                services.recheck_pool(pool_id, now=now)
            services.delay_redispatch(stage_ids, now=now)
            again = messages if missing is None else messages[:missing]
            if again:
                taken = dispatch(again)
                acted += taken
                logger.info("Told the broker again of %d stages queued for %s", taken, pool_id)
        return acted

    def time_out(self, now: datetime) -> int:
        return sum(_unless_refused(services.time_out_workflow, workflow.pk) for workflow in _LATE_WORKFLOWS.rows(now))

    def expire_leases(self, now: datetime) -> int:
        if time.monotonic() < self._trusts_silence_at:
            return 0
        return sum(services.expire_lease(stage.pk, expired_before=now) for stage in _EXPIRED_LEASES.rows(now))

    def expire_workers(self, now: datetime) -> int:
        if time.monotonic() < self._trusts_silence_at:
            return 0
        since = now - timedelta(seconds=self._limits.worker_timeout_seconds)
        return sum(services.expire_worker(worker.pk, no_heartbeat_since=since) for worker in _SILENT_WORKERS.rows(since))


def _due(model: type[Row], moment: str, *columns: str) -> CompiledSelect[Row]:
    """The rows whose moment has come, the first ones first. It is asked all the time, and mostly in vain."""

    def build(now: datetime) -> QuerySet[Row]:
        due = model._default_manager.filter(**{f"{moment}__lte": now})
        return due.order_by(moment, "pk").only("pk", *columns)[:MAX_PER_LOOK]

    return CompiledSelect(build, datetime)


_DIRTY_POOLS: Final = _due(Pool, "metrics_dirty_since")
_DUE_RETRIES: Final = _due(Stage, "retry_at")
_UNCLAIMED_STAGES: Final = _due(Stage, "dispatch_due_at", "attempt", "pool")
_LATE_WORKFLOWS: Final = _due(Workflow, "deadline_at")
_EXPIRED_LEASES: Final = _due(Stage, "lease_expires_at")
_SILENT_WORKERS: Final = _due(Worker, "heartbeat_at")


def _unless_refused(service: Callable[..., object], workflow_id: str) -> bool:
    try:
        service(workflow_id=workflow_id)
    except services.ServiceError as refusal:
        logger.debug("%s", refusal)
        return False
    return True
