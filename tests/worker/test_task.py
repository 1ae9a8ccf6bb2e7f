"""The Celery task, when the database is unavailable or rejects a statement."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import pytest
from celery.exceptions import Reject
from django.db import OperationalError

from orchestration import services, tasks
from orchestration.worker import child

pytestmark = pytest.mark.django_db(transaction=True)


def operational_error(code: int) -> OperationalError:
    """Return an error of Django that SQLite caused with this code."""
    cause = sqlite3.OperationalError("a message of SQLite")
    cause.sqlite_errorcode = code
    error = OperationalError(*cause.args)
    error.__cause__ = cause
    return error


@pytest.fixture
def run_raising(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], None]:
    """Return a function that runs the task in a child whose attempt raises this error."""

    class Slot:
        worker_id = "worker"
        must_replace = False

    def run(error: Exception) -> None:
        def fail(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(tasks, "run_attempt", fail)
        tasks.run_stage(1, 1)

    monkeypatch.setattr(tasks, "_REQUEUE_PAUSE_SECONDS", 0)
    monkeypatch.setattr(child, "current_slot", Slot)
    monkeypatch.setattr(child, "wait_for_worker", lambda _: True)
    monkeypatch.setattr(child, "worker_process_id", lambda: "process")
    return run


@pytest.mark.parametrize("error", [operational_error(sqlite3.SQLITE_BUSY), services.StaleWorker("worker")], ids=repr)
def test_run_stage_requeues_the_message_if_another_try_may_succeed(
    run_raising: Callable[[Exception], None], error: Exception
) -> None:
    with pytest.raises(Reject) as rejected:
        run_raising(error)
    assert (rejected.value.reason, rejected.value.requeue) == (error, True)


def test_run_stage_raises_the_error_of_a_rejected_statement(run_raising: Callable[[Exception], None]) -> None:
    error = operational_error(sqlite3.SQLITE_ERROR)
    with pytest.raises(OperationalError) as raised:
        run_raising(error)
    assert raised.value is error
