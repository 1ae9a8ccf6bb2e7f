"""Publish queued stages to the broker. If it fails or loses messages, the scheduler redispatches the stages."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from django.conf import settings
from django.db import transaction
from django.utils.module_loading import import_string

from orchestration.db.clock import database_now
from orchestration.identifiers import TASK_NAME
from orchestration.limits import engine_limits
from orchestration.log_throttle import OutageLog
from orchestration.models import Stage, StageStatus

logger = logging.getLogger(__name__)


class Message(NamedTuple):
    """The only kind of broker message: it wakes a worker for an attempt at a stage."""

    stage_id: int
    attempt: int
    pool_id: str


def message_for(stage: Stage) -> Message:
    """Return the message for the next attempt at a queued stage."""
    return Message(stage.pk, stage.attempt + 1, stage.pool_id or "")


def dispatch_after_commit(messages: Sequence[Message]) -> None:
    """Publish the messages after the current transaction commits."""
    if not messages:
        return

    # Not a `partial`: if a robust hook raises, Django logs its `__qualname__`, which a partial does not have.
    def dispatch_messages() -> None:
        dispatch(messages)

    transaction.on_commit(dispatch_messages, robust=True)


def dispatch(messages: Sequence[Message]) -> int:
    """Publish the messages now, and return how many the broker accepted. The scheduler publishes the others later.

    If the broker is unavailable, no error is raised.
    """
    accepted = 0
    for message in messages:
        if not _publish(message):
            break
        accepted += 1
    if accepted < len(messages):
        _mark_due(messages[accepted:])
    return accepted


def queued_messages(pool_id: str) -> int | None:
    """Return how many messages the broker holds for a pool; None if that is unknown."""
    app = celery_app()
    try:
        with app.connection_for_write() as connection:
            # Not a passive declaration: kombu 5.7 does not find Redis queues that way if keys have a prefix.
            declared = app.amqp.queues[pool_id].bind(connection.default_channel).queue_declare()
            return int(declared.message_count)
    except Exception as error:
        # Every transport has its own errors.
        logger.debug("Length of queue %s is unknown (%r)", pool_id, error)
        return None


def celery_app() -> Any:
    """Return the Celery application. A setting names it, because this package does not import the project."""
    return import_string(settings.MAHAVISHNU_CELERY_APP)


class CircuitBreaker:
    """Skips the broker for a while after a failure, so that callers do not all wait for the timeout."""

    def __init__(self) -> None:
        self._retry_at = 0.0
        self._outage = OutageLog(
            logger,
            failed="Broker unavailable (%r); the scheduler will dispatch these stages later",
            recovered="Broker available again; dispatching continues",
        )

    def allows(self) -> bool:
        """Check whether to try the broker."""
        return time.monotonic() >= self._retry_at

    def record_failure(self, error: Exception, *, pause_seconds: float) -> None:
        """Open the breaker for `pause_seconds`."""
        self._retry_at = time.monotonic() + pause_seconds
        self._outage.record_failure(error)

    def record_success(self) -> None:
        """Close the breaker."""
        self._outage.record_success()


_breaker = CircuitBreaker()


def _publish(message: Message) -> bool:
    if not _breaker.allows():
        return False
    try:
        celery_app().send_task(
            TASK_NAME,
            args=(message.stage_id, message.attempt),
            queue=message.pool_id,
            retry=False,
            ignore_result=True,
        )
    except Exception as error:
        # Every transport has its own errors. Nothing is lost: the stage is stored as queued.
        _breaker.record_failure(error, pause_seconds=engine_limits().broker_timeout_seconds)
        return False
    _breaker.record_success()
    return True


def _mark_due(messages: Iterable[Message]) -> None:
    pks = [message.stage_id for message in messages]
    dispatched = Stage.objects.filter(pk__in=pks, status=StageStatus.QUEUED, dispatch_due_at__isnull=False)
    dispatched.update(dispatch_due_at=database_now())
