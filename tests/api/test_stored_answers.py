"""The bytes of stored answers: a key that has no room is refused, and no answer is dropped before its time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from pytest_django import Settings

from orchestration.models import Workflow
from realtime import stored_answers
from realtime.api import idempotency
from realtime.api.problems import Problem
from realtime.auth.identity import Identity
from realtime.limits import Limits
from realtime.models import Event, StoredAnswer
from realtime.stored_answers import ROW_BYTES, NoRoom, StoredBytes, oldest_repeated, prune_stored_answers
from tests.api.report_calls import AIRFLOW, event, report

pytestmark = [
    pytest.mark.both_databases,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("valkey"),
]

USERS = [Identity(user_id=name, permissions=AIRFLOW.permissions) for name in ("a", "b", "c", "d")]


@pytest.fixture(autouse=True)
def stored_bytes(monkeypatch: pytest.MonkeyPatch) -> StoredBytes:
    stored_bytes = StoredBytes()
    monkeypatch.setattr(idempotency, "stored_bytes", stored_bytes)
    return stored_bytes


def started(number: int) -> dict[str, object]:
    return event("workflow.started", workflow_id=f"wf-{number}", adapter="a")


def problem_of(number: int, *, identity: Identity, key: str | None) -> Problem:
    runs, events, answers = Workflow.objects.count(), Event.objects.count(), StoredAnswer.objects.count()
    with pytest.raises(Problem) as error:
        report(started(number), identity=identity, key=key)
    assert (Workflow.objects.count(), Event.objects.count(), StoredAnswer.objects.count()) == (runs, events, answers)
    return error.value


def test_new_key_without_room_is_refused_and_stored_answers_are_repeated(settings: Settings) -> None:
    # Half of it for each user. An answer has about 650 bytes.
    settings.MAHAVISHNU_LIMITS = Limits(max_stored_answers_bytes=2 * ROW_BYTES)
    a, b, c, d = USERS
    first = report(started(1), identity=a, key="k1")
    of_user = problem_of(2, identity=a, key="k2")
    assert (of_user.code, of_user.status, of_user.retry_after_seconds) == ("RATE_LIMIT_EXCEEDED", 429, 60)
    size_bytes = StoredAnswer.objects.get().size_bytes
    assert size_bytes > ROW_BYTES
    assert of_user.detail == (
        f"The stored answers of this user take {size_bytes} of {ROW_BYTES} bytes: no new Idempotency-Key is accepted "
        "for now. Nothing was changed"
    )
    report(started(2), identity=b, key="k1")
    of_all = problem_of(3, identity=c, key="k1")
    assert (of_all.code, of_all.status, of_all.retry_after_seconds) == ("UNAVAILABLE", 503, 60)
    all_bytes = sum(StoredAnswer.objects.values_list("size_bytes", flat=True))
    assert f"of all users take {all_bytes} of {2 * ROW_BYTES} bytes" in of_all.detail
    assert report(started(1), identity=a, key="k1") == first
    assert report(started(3), identity=d)["results"][0]["changed"] is True


def test_answers_of_other_processes_count_until_they_are_deleted(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, stored_bytes: StoredBytes
) -> None:
    settings.MAHAVISHNU_LIMITS = Limits(max_stored_answers_bytes=2 * ROW_BYTES)
    a = USERS[0]
    StoredAnswer.objects.create(
        user_id="a", path="p", key="k", body_hash="h", status=200, compressed_body=b"", size_bytes=ROW_BYTES,
        created_at=oldest_repeated() + timedelta(minutes=1),
    )  # fmt: skip
    assert problem_of(1, identity=a, key="k1").code == "RATE_LIMIT_EXCEEDED"
    StoredAnswer.objects.update(created_at=oldest_repeated() - timedelta(minutes=1))
    assert prune_stored_answers() == 1
    assert problem_of(1, identity=a, key="k1").code == "RATE_LIMIT_EXCEEDED"
    monkeypatch.setattr(stored_answers, "READ_INTERVAL_SECONDS", 0)
    assert report(started(1), identity=a, key="k1")["results"][0]["changed"] is True


def test_answer_that_is_added_during_the_read_counts_and_one_caller_reads(
    settings: Settings, stored_bytes: StoredBytes
) -> None:
    settings.MAHAVISHNU_LIMITS = Limits(max_stored_answers_bytes=2 * ROW_BYTES)
    reads: list[str] = []

    def add_meanwhile(execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        done = execute(sql, *arguments)
        reads.append(sql)
        stored_bytes.add("a", ROW_BYTES)
        stored_bytes.read_if_old(now=100.0)
        return done

    with connection.execute_wrapper(add_meanwhile):
        stored_bytes.read_if_old(now=100.0)
    assert len(reads) == 1
    with pytest.raises(NoRoom):
        stored_bytes.check_room("a")


def test_answer_that_is_too_long_to_be_stored_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "MAX_STORED_ANSWER_BYTES", 20)
    problem = problem_of(1, identity=AIRFLOW, key="k1")
    assert (problem.code, problem.status) == ("INVALID_PARAMETERS", 422)
    assert "bytes, and 20 can be stored: send a smaller request. Nothing was changed" in problem.detail
    assert report(started(1))["results"][0]["changed"] is True


def test_longest_answers_to_reports_can_be_stored() -> None:
    names = ("n" * 32, "x" * 128)
    accepted = [event("deploy." + names[0], number=number) for number in range(1000)]
    refused = [
        event("workflow.stage_started", workflow_id=names[1], stage_name=names[1], worker_id=names[1])
        for _ in range(1000)
    ]
    report(*accepted, key="k1")
    report(*refused, key="k2", atomic=False)
    sizes = dict(StoredAnswer.objects.values_list("key", "size_bytes"))
    assert sizes["k1"] < 20_000
    assert sizes["k2"] < 20_000
