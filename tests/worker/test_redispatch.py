"""Redispatch of stages in a long queue whose messages the broker has lost."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from orchestration import services
from orchestration.db.clock import database_now
from orchestration.dispatch import celery_app, queued_messages
from orchestration.limits import engine_limits
from orchestration.models import Stage
from orchestration.scheduler import Scheduler
from orchestration.scheduler.due_select import MAX_ROWS_PER_PASS
from orchestration.sdk import Context, stage, workflow
from tests.harness.valkey import Valkey

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True)]

QUEUED = MAX_ROWS_PER_PASS + 50


@stage
def waits(ctx: Context, inputs: dict[str, Any]) -> None:
    return None


@workflow()
def waits_in_a_long_queue(prompt: str) -> Any:
    return [waits]


@pytest.fixture
def long_queue(valkey: Valkey, unique: Callable[[str], str]) -> str:
    """Queue more stages than one pass of the scheduler handles, with a message each, in a pool without workers."""
    pool_id = unique("long_queue")
    with transaction.atomic():
        for _ in range(QUEUED):
            waits_in_a_long_queue.start("", pool=pool_id)
    assert queued_messages(pool_id) == QUEUED
    return pool_id


def lose_messages(pool_id: str, messages: int) -> None:
    """Remove messages of a pool from the broker, as its restart does."""
    with celery_app().connection_for_write() as connection:
        for _ in range(messages):
            message = connection.default_channel.basic_get(pool_id)
            connection.default_channel.basic_reject(message.delivery_tag, requeue=False)
    assert queued_messages(pool_id) == QUEUED - messages


def test_stages_with_messages_are_not_redispatched(long_queue: str) -> None:
    scheduler, interval = Scheduler(), timedelta(seconds=engine_limits().redispatch_seconds)
    now = database_now() + interval
    while Stage.objects.filter(dispatch_due_at__lte=now).exists():
        assert scheduler.redispatch(now) == 0
    due_at = Stage.objects.filter(status="queued").values_list("dispatch_due_at", flat=True)
    assert list(due_at) == [now + interval] * QUEUED
    assert queued_messages(long_queue) == QUEUED
    with CaptureQueriesContext(connection) as queries:
        assert scheduler.redispatch(now) == 0
    assert len(queries) == 1, "nothing is due: one query and no write"


@pytest.mark.parametrize("lost", [pytest.param(QUEUED, marks=pytest.mark.chaos), 10])
def test_lost_messages_are_dispatched_again(long_queue: str, lost: int) -> None:
    scheduler, interval = Scheduler(), timedelta(seconds=engine_limits().redispatch_seconds)
    now = database_now() + interval
    while Stage.objects.filter(dispatch_due_at__lte=now).exists():
        scheduler.redispatch(now)
    # A claimed stage needs no message.
    worker_id = services.join_pool(name=long_queue, process="test", pool_id=long_queue)
    first = Stage.objects.filter(status="queued").order_by("queued_at", "pk")[0]
    assert services.claim_stage(first.pk, 1, slot=services.Slot(worker_id=worker_id, process="test")) is not None
    lose_messages(long_queue, lost)
    now += interval
    redispatched = 0
    while Stage.objects.filter(dispatch_due_at__lte=now).exists():
        redispatched += scheduler.redispatch(now)
    assert redispatched == lost - 1
    assert queued_messages(long_queue) == QUEUED - 1
