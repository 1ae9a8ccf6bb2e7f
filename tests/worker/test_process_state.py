"""What a stage changes in its process is restored, or is a reason to replace the process; it never costs the result."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from orchestration.worker.process_state import ProcessState
from orchestration.worker.stage_connections import has_transaction
from tests.harness.waiting import wait_until


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    state = ProcessState.capture()
    yield
    assert state.restore() == []


def delete_arguments() -> None:
    del sys.argv


def replace_arguments() -> None:
    sys.argv = ("prog", "--option")  # type: ignore[assignment]
    sys.path = ()  # type: ignore[assignment]


def set_policy() -> None:
    asyncio.set_event_loop_policy(asyncio.DefaultEventLoopPolicy())


def bind_to_one_processor() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def observed() -> list[Any]:
    return [
        *(list(sys.argv), list(sys.path), asyncio.get_event_loop_policy(), logging.root.manager.disable),
        *(os.sched_getaffinity(0), os.getpgrp()),
    ]


@pytest.mark.parametrize(
    "change",
    [delete_arguments, replace_arguments, set_policy, bind_to_one_processor, logging.disable],
    ids=lambda change: change.__name__,
)
def test_process_state_is_restored_after(change: Callable[[], None]) -> None:
    before = observed()
    state = ProcessState.capture()
    change()
    assert state.restore() == []
    assert observed() == before


def exit_code_of(check: Callable[[], bool]) -> int:
    """Return the exit code of a forked process that runs the check: 0 if it holds."""
    pid = os.fork()
    if pid == 0:
        code = 2
        try:
            code = 0 if check() else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_process_group_is_restored() -> None:
    def check() -> bool:
        os.setpgid(0, 0)
        state = ProcessState.capture()
        os.setpgid(0, os.getpgid(os.getppid()))
        return state.restore() == [] and os.getpgrp() == os.getpid()

    assert exit_code_of(check) == 0


def test_restoration_that_raises_is_named_and_keeps_no_other_from_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    state = ProcessState.capture()
    folder = os.getcwd()
    os.chdir("/")
    with monkeypatch.context() as broken:
        broken.setattr(signal, "pthread_sigmask", None)
        assert state.restore() == ["the signal handlers"]
    assert os.getcwd() == folder


def test_driver_that_shows_no_transaction_has_none() -> None:
    of_mysql: Any = SimpleNamespace(connection=object(), vendor="mysql", in_atomic_block=False)
    assert not has_transaction(of_mysql)
    of_mysql.in_atomic_block = True
    assert has_transaction(of_mysql)


def test_repeated_alarm_goes_off_again_after_it_went_off_between_stages() -> None:
    went_off = []
    handler = signal.signal(signal.SIGALRM, lambda *_: went_off.append(True))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.001, 600)
        state = ProcessState.capture()
        wait_until(lambda: bool(went_off), timeout_seconds=60, what="the alarm")
        assert state.restore() == []
        remaining_seconds, interval = signal.getitimer(signal.ITIMER_REAL)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    assert 0 < remaining_seconds <= 600
    assert interval == 600
