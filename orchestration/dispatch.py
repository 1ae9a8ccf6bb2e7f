"""Telling the broker that a stage is queued. It may fail, be slow or forget: the scheduler finds what was not told."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

from django.conf import settings
from django.db import transaction
from django.utils.module_loading import import_string

from orchestration.db.clock import database_now
from orchestration.limits import engine_limits
from orchestration.models import Stage, StageStatus

logger = logging.getLogger(__name__)

TASK_NAME = "orchestration.run_stage"


class Message(NamedTuple):
    """What wakes a worker: which stage, and which attempt at it. Nothing else is ever in the queue."""

    stage_id: int
    attempt: int
    pool_id: str


def dispatch_after_commit(messages: Sequence[Message]) -> None:
    """Tell the broker when, and only if, the current transaction commits."""
    if messages:
        transaction.on_commit(partial(dispatch, messages), robust=True)


def dispatch(messages: Sequence[Message]) -> int:
    """Tell the broker now, and return how many it took; the scheduler is to tell it the others. Never raises."""
    taken = 0
    for message in messages:
        if not _send(message):
            break
        taken += 1
    if taken < len(messages):
        _mark_due(messages[taken:])
    return taken


def queued_messages(pool_id: str) -> int | None:
    """How many messages the broker holds for a pool; None if it does not say."""
    app = celery_app()
    try:
        with app.connection_for_write() as connection:
            # Not passively: with a prefix for its keys, kombu 5.7 finds no queue of Redis that way.
            declared = app.amqp.queues[pool_id].bind(connection.default_channel).queue_declare()
            return int(declared.message_count)
    except Exception as error:
        # Each transport has its own errors.
        logger.debug("The broker does not say how long the queue %s is (%r)", pool_id, error)
        return None


def celery_app() -> Any:
    """The application that knows the broker. It belongs to the site, which this package does not import."""
    return import_string(settings.MAHAVISHNU_CELERY_APP)


class CircuitBreaker:
    """Remembers that the broker did not answer, so that not everybody waits for it in turn."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._closed_at = 0.0
        self.failing = False

    def allows(self) -> bool:
        return time.monotonic() >= self._closed_at

    def failed(self, error: Exception, *, pause_seconds: float) -> None:
        with self._lock:
            if not self.failing:
                logger.warning("The broker does not answer (%r): the scheduler tells it later", error)
            self.failing = True
            self._closed_at = time.monotonic() + pause_seconds

    def succeeded(self) -> None:
        if self.failing:
            with self._lock:
                self.failing = False
            logger.warning("The broker answers again")


_breaker = CircuitBreaker()


def _send(message: Message) -> bool:
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
        # Whatever the transport raises: the stage is stored as queued, and nothing is lost.
        _breaker.failed(error, pause_seconds=engine_limits().broker_timeout_seconds)
        return False
    _breaker.succeeded()
    return True


def _mark_due(messages: Iterable[Message]) -> None:
    pks = [message.stage_id for message in messages]
    Stage.objects.filter(pk__in=pks, status=StageStatus.QUEUED).update(dispatch_due_at=database_now())
