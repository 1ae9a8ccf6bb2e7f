"""Stages of `run_inline` that leave something behind: the test and later stages find everything as it was."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import connection, transaction

from orchestration.testing import run_inline
from tests.testing import shop

OPEN_TRANSACTION = (
    "The stage left a transaction open (database default); it is rolled back. "
    "Expected each transaction to end before the stage returns."
)

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


@pytest.fixture(autouse=True)
def left_blocks() -> Iterator[list[Any]]:
    """Provide a list that keeps the open blocks of a stage, as a cache does."""
    kept: list[Any] = []
    yield kept
    shop.effects.clear()
    for block in kept:
        block.pop_all()


def enter_atomic(kept: list[Any], **options: Any) -> None:
    stack = ExitStack()
    stack.enter_context(transaction.atomic(**options))
    kept.append(stack)


@pytest.mark.parametrize("depth", [1, 3])
def test_atomic_that_a_stage_leaves_open_is_rolled_back_within_the_transaction_of_the_test(
    left_blocks: list[Any], depth: int
) -> None:
    def leave(ctx: Any) -> None:
        User.objects.create(username="kept")
        for number in range(depth):
            enter_atomic(left_blocks)
            User.objects.create(username=f"lost {number}")

    shop.effects.append(leave)
    with transaction.atomic():
        before = list(connection.atomic_blocks)
        result = run_inline(shop.order)
        assert (result.status, result.stages["charge"].failed_attempts) == ("completed", (OPEN_TRANSACTION,))
        assert connection.atomic_blocks == before
        assert list(User.objects.values_list("username", flat=True)) == ["kept"]
        transaction.set_rollback(True)
    assert not User.objects.exists()


def test_atomic_without_a_savepoint_that_a_stage_leaves_open_takes_the_attempt_with_it(left_blocks: list[Any]) -> None:
    def leave(ctx: Any) -> None:
        User.objects.create(username="before")
        enter_atomic(left_blocks, savepoint=False)
        User.objects.create(username="inside")

    shop.effects.append(leave)
    result = run_inline(shop.order)
    assert (result.status, result.stages["charge"].failed_attempts) == ("completed", (OPEN_TRANSACTION,))
    assert not User.objects.exists()


def begin_in_sql(kept: list[Any]) -> None:
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "begin",
    [enter_atomic, begin_in_sql, lambda kept: transaction.set_autocommit(False)],
    ids=["atomic", "SQL", "no autocommit"],
)
def test_transaction_that_a_stage_leaves_open_is_rolled_back(
    left_blocks: list[Any], begin: Callable[[list[Any]], None]
) -> None:
    def leave(ctx: Any) -> None:
        User.objects.create(username="kept")
        begin(left_blocks)
        User.objects.create(username="lost")

    shop.effects.append(leave)
    result = run_inline(shop.order)
    assert (result.status, result.stages["charge"].failed_attempts) == ("completed", (OPEN_TRANSACTION,))
    assert (connection.in_atomic_block, connection.get_autocommit()) == (False, True)
    assert list(User.objects.values_list("username", flat=True)) == ["kept"]


def test_error_of_a_stage_that_left_a_transaction_open_is_its_own(left_blocks: list[Any]) -> None:
    def leave(ctx: Any) -> None:
        enter_atomic(left_blocks)
        raise LookupError("Its own error")

    shop.effects.append(leave)
    assert run_inline(shop.order).stages["charge"].failed_attempts == ("LookupError: Its own error",)


def process_state() -> list[Any]:
    umask = os.umask(0)
    os.umask(umask)
    return [
        *(dict(os.environ), Path.cwd(), umask, socket.getdefaulttimeout(), list(sys.path), list(sys.argv)),
        *(sys.stdout, signal.getsignal(signal.SIGUSR1), signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        asyncio._get_running_loop(),
    ]


def change_process(folder: Path) -> None:
    os.environ["LEFT"] = "1"
    os.chdir(folder)
    os.umask(0o057)
    socket.setdefaulttimeout(0.001)
    sys.path.append("left")
    sys.argv.append("left")
    sys.stdout = None
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def test_process_is_as_it_was_after_each_stage(tmp_path: Path) -> None:
    found: list[list[Any]] = []

    def change(ctx: Any) -> None:
        change_process(tmp_path)
        if ctx.attempt == 1:
            raise ConnectionError

    def look(ctx: Any) -> None:
        found.append(process_state())
        change(ctx)

    shop.effects += [change, look]
    before = process_state()
    assert run_inline(shop.order).status == "completed"
    assert found == [before]
    assert process_state() == before


@pytest.mark.django_db(transaction=True)
async def test_process_is_as_it_was_after_a_run_in_another_thread(tmp_path: Path) -> None:
    def run() -> str:
        try:
            return run_inline(shop.order).status
        finally:
            connection.close()

    shop.effects.append(lambda ctx: change_process(tmp_path))
    before = process_state()
    assert await sync_to_async(run)() == "completed"
    assert process_state() == before


@pytest.fixture
def alarm() -> Iterator[None]:
    """Set an alarm in ten minutes, as pytest-timeout does."""
    remaining = signal.setitimer(signal.ITIMER_REAL, 600)
    yield
    signal.setitimer(signal.ITIMER_REAL, *remaining)


@pytest.mark.usefixtures("alarm")
@pytest.mark.parametrize("effect", [lambda ctx: None, lambda ctx: signal.setitimer(signal.ITIMER_REAL, 0)])
def test_alarm_of_the_test_continues(effect: Callable[[Any], Any]) -> None:
    shop.effects.append(effect)
    assert run_inline(shop.order).status == "completed"
    assert 500 < signal.getitimer(signal.ITIMER_REAL)[0] < 600


def test_alarm_of_a_stage_ends_with_it() -> None:
    def set_alarm(ctx: Any) -> None:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 1000, 1000)

    shop.effects.append(set_alarm)
    before = (signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)[1])
    assert run_inline(shop.order).status == "completed"
    assert (signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)[1]) == before
