"""Stages that wait in a long queue, and a broker that forgets them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from orchestration import services
from orchestration.db.clock import database_now
from orchestration.dispatch import celery_app, queued_messages
from orchestration.limits import engine_limits
from orchestration.models import Stage
from orchestration.scheduler import MAX_PER_LOOK, Scheduler
from orchestration.sdk import stage, workflow
from orchestration.sdk.context import Context
from orchestration.services.redispatch import TRUSTED_TIMES
from tests.harness.valkey import Valkey

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True)]

QUEUED = MAX_PER_LOOK + 50


@stage
def waits(ctx: Context, inputs: dict[str, Any]) -> None:
    return None


@workflow()
def waits_in_a_long_queue(prompt: str) -> Any:
    return [waits]


@pytest.fixture
def long_queue(valkey: Valkey, unique: Callable[[str], str]) -> str:
    """A pool without workers, with more queued stages than one look handles and a message for each."""
    pool_id = unique("long_queue")
    for _ in range(QUEUED):
        waits_in_a_long_queue.start("", pool=pool_id)
    assert queued_messages(pool_id) == QUEUED
    return pool_id


def forget(pool_id: str, messages: int) -> None:
    """Lose so many messages of a pool, as a broker does that is restarted."""
    with celery_app().connection_for_write() as connection:
        for _ in range(messages):
            message = connection.default_channel.basic_get(pool_id)
            connection.default_channel.basic_reject(message.delivery_tag, requeue=False)
    assert queued_messages(pool_id) == QUEUED - messages


def test_stages_whose_messages_are_there_are_left_alone_but_one_of_them(long_queue: str) -> None:
    scheduler, interval = Scheduler(), timedelta(seconds=engine_limits().redispatch_seconds)
    now = database_now() + interval
    while Stage.objects.filter(dispatch_due_at__lte=now).exists():
        assert scheduler.redispatch(now) == 0
    due_at = list(Stage.objects.filter(status="queued").values_list("dispatch_due_at", flat=True))
    assert set(due_at) == {now + interval, now + TRUSTED_TIMES * interval}
    assert due_at.count(now + interval) == QUEUED // MAX_PER_LOOK + 1
    assert queued_messages(long_queue) == QUEUED
    scheduler.redispatch(now + interval)
    with CaptureQueriesContext(connection) as queries:
        scheduler.redispatch(now + interval)
    assert len(queries) == 1, "nothing is due: it is asked once, and nothing is written"


@pytest.mark.parametrize("lost", [QUEUED, 10])
def test_what_the_broker_has_forgotten_is_told_again_at_the_next_look_at_one_of_them(
    long_queue: str, lost: int
) -> None:
    scheduler, interval = Scheduler(), timedelta(seconds=engine_limits().redispatch_seconds)
    now = database_now() + interval
    while Stage.objects.filter(dispatch_due_at__lte=now).exists():
        scheduler.redispatch(now)
    # The head of the queue is claimed first: it can stand for nobody.
    worker_id = services.join_pool(name=long_queue, process="test", pool_id=long_queue)
    first = Stage.objects.filter(status="queued").order_by("queued_at", "pk")[0]
    assert services.claim_stage(first.pk, 1, slot=services.Slot(worker_id=worker_id, process="test")) is not None
    forget(long_queue, lost)
    now += interval
    told = 0
    while Stage.objects.filter(dispatch_due_at__lte=now).exists():
        told += scheduler.redispatch(now)
    assert told == lost - 1
    assert queued_messages(long_queue) == QUEUED - 1
