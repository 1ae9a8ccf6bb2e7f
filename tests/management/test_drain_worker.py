"""`manage.py drain_worker`, and the action of the admin, on workers of processes that do not run."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection

from orchestration import services
from orchestration.db.clock import database_now
from orchestration.models import Worker
from orchestration.services import workers as worker_services
from tests.admin.conftest import admin

if TYPE_CHECKING:
    from django.test import Client

__all__ = ["admin"]

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]

WORKERS = "/admin/orchestration/worker/"


def join(name: str, process: str) -> str:
    return services.join_pool(name=name, process=process, pool_id="pool")


def leave(worker_id: str, process: str) -> None:
    assert services.leave_pool(worker_id=worker_id, process=process, error="It left")


def test_wait_continues_after_an_outage_of_the_database(capsys: pytest.CaptureFixture[str]) -> None:
    join("box", "p1")
    polls = 0

    def interrupt(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        nonlocal polls
        if ' AS "a" FROM "orchestration_worker"' in sql:
            polls += 1
            if polls == 1:
                raise OperationalError("the connection is closed")
            if polls == 2:
                leave("box-1", "p1")
        return execute(sql, *rest)

    with connection.execute_wrapper(interrupt):
        call_command("drain_worker", "box-1", "--wait")
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        "Draining: box-1",
        "Drained: box-1. Stop or restart the process now.",
    ]
    assert printed.err.splitlines() == [
        "Database unavailable (OperationalError('the connection is closed')); retrying",
        "Database available again",
    ]


def test_wait_reports_a_worker_that_was_lost(capsys: pytest.CaptureFixture[str]) -> None:
    join("box", "p1")

    def expire(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        if ' AS "a" FROM "orchestration_worker"' in sql:
            assert services.expire_worker("box-1", no_heartbeat_since=database_now())
        return execute(sql, *rest)

    with (
        connection.execute_wrapper(expire),
        pytest.raises(CommandError, match="box-1: marked offline without heartbeats before it had drained"),
    ):
        call_command("drain_worker", "box-1", "--wait")
    assert capsys.readouterr().out.splitlines() == ["Draining: box-1"]


def run_action(admin: Client, *worker_ids: str) -> list[str]:
    """Select the workers in the admin, drain them, and return the messages."""
    data = {"action": "drain_workers", "_selected_action": worker_ids, "index": "0"}
    page = admin.post(WORKERS, data, follow=True).content.decode()
    return [html.unescape(text) for text in re.findall(r'<li class="(?:success|error)">(.*?)</li>', page)]


def test_admin_drains_each_process_once(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    workers = [join("box", "p1"), join("box", "p1"), join("other", "p2")]
    drain, calls = services.drain_worker, []

    def count(*, worker_id: str) -> list[Worker]:
        calls.append(worker_id)
        return drain(worker_id=worker_id)

    monkeypatch.setattr(services, "drain_worker", count)
    assert run_action(admin, *workers) == ["Draining: box-1, box-2, other-1."]
    assert len(calls) == 2
    assert Worker.objects.filter(draining=True).count() == 3


def test_admin_reports_a_worker_that_leaves_meanwhile(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    workers = [join("box", "p1"), join("box", "p1")]
    find_process = worker_services._process_of

    def find_and_leave(worker_id: str) -> tuple[str, str]:
        found = find_process(worker_id)
        if worker_id == "box-1":
            leave(worker_id, "p1")
        return found

    monkeypatch.setattr(worker_services, "_process_of", find_and_leave)
    assert run_action(admin, *workers) == [
        "Draining: box-2.",
        "Refused: Worker box-1 is offline; only an online worker can be drained.",
    ]
