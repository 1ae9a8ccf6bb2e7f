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
from typing import Any, TypeVar

from django.db import Error as DatabaseError
from django.db import connection
from django.db.models import QuerySet

from orchestration import services
from orchestration.clock import database_now
from orchestration.engine.limits import engine_limits
from orchestration.engine.queue import Message, dispatch, queued_messages
from orchestration.models import Pool, Stage, Worker, Workflow

logger = logging.getLogger(__name__)

Key = TypeVar("Key")

SIGN_SECONDS = 0.5
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
            self.give_up_workers,
            self.give_up_attempts,
            self.tell_pools,
        ]
        self._signed_at = 0.0

    def run(self, *, stopped: Callable[[float], bool]) -> None:
        """Look again and again; `stopped(seconds)` waits so long and tells whether to stop."""
        while True:
            acted = self.look()
            if stopped(0.0 if acted >= MAX_PER_LOOK else self._limits.scheduler_interval_seconds):
                with contextlib.suppress(DatabaseError):
                    services.sign_of_scheduler(alive=False)
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
        if time.monotonic() - self._signed_at >= SIGN_SECONDS:
            services.sign_of_scheduler(alive=True)
            self._signed_at = time.monotonic()

    def tell_pools(self, now: datetime) -> int:
        since = now - timedelta(seconds=self._limits.pool_status_interval_seconds)
        untold = Pool.objects.filter(untold_since__lte=since).order_by("untold_since")
        return _each(untold.values_list("pk", flat=True), services.tell_pool)

    def queue_retries(self, now: datetime) -> int:
        due = Stage.objects.filter(retry_at__lte=now).order_by("retry_at")
        return _each(due.values_list("pk", flat=True), lambda pk: services.queue_retry(pk, due_before=now))

    def redispatch(self, now: datetime) -> int:
        """Tell the broker again of stages that nobody claimed, as far as it does not hold their messages still."""
        due = Stage.objects.filter(dispatch_due_at__lte=now).order_by("dispatch_due_at")
        found: dict[str, list[Message]] = {}
        for pk, attempt, pool_id in due.values_list("pk", "attempt", "pool_id")[:MAX_PER_LOOK]:
            found.setdefault(pool_id or "", []).append(Message(pk, attempt + 1, pool_id or ""))
        acted = 0
        for pool_id, messages in found.items():
            missing = services.missing_messages(pool_id, held=queued_messages(pool_id))
            again = messages if missing is None else messages[:missing]
            services.postpone_dispatch([message.stage_id for message in messages], now=now)
            if again:
                taken = dispatch(again)
                acted += taken
                logger.info("Told the broker again of %d stages queued for %s", taken, pool_id)
        return acted

    def time_out(self, now: datetime) -> int:
        late = Workflow.objects.filter(deadline_at__lte=now).order_by("deadline_at")
        return _each(late.values_list("pk", flat=True), lambda pk: _unless_refused(services.time_out_workflow, pk))

    def give_up_attempts(self, now: datetime) -> int:
        if time.monotonic() < self._trusts_silence_at:
            return 0
        expired = Stage.objects.filter(lease_expires_at__lte=now).order_by("lease_expires_at")
        return _each(expired.values_list("pk", flat=True), lambda pk: services.give_up_attempt(pk, expired_before=now))

    def give_up_workers(self, now: datetime) -> int:
        if time.monotonic() < self._trusts_silence_at:
            return 0
        since = now - timedelta(seconds=self._limits.worker_timeout_seconds)
        silent = Worker.objects.filter(seen_at__lte=since).order_by("seen_at")
        return _each(silent.values_list("pk", flat=True), lambda pk: services.give_up_worker(pk, silent_since=since))


def _each(keys: QuerySet[Any, Key], act: Callable[[Key], bool]) -> int:
    return sum(act(key) for key in keys[:MAX_PER_LOOK])


def _unless_refused(service: Callable[..., object], workflow_id: str) -> bool:
    try:
        service(workflow_id=workflow_id)
    except services.Refusal as refusal:
        logger.debug("%s", refusal)
        return False
    return True
