"""Reports of a stage: what is stored, what is dropped, and that none fails the stage."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NoReturn

import pytest
from django.db import OperationalError, transaction
from django.test import override_settings

from orchestration.limits import EngineLimits, engine_limits
from orchestration.log_throttle import LogThrottle
from orchestration.sdk import stage_database
from orchestration.sdk.stream import OpenedStreams

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("every_line_is_logged")]


class Speechless:
    def __str__(self) -> NoReturn:
        raise ValueError("no words")

    def __float__(self) -> NoReturn:
        raise LookupError("no number")


@pytest.fixture
def every_line_is_logged(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.MAHAVISHNU_LOG_REPEAT_SECONDS = 0
    # Another test of this process may have left lines out, which the next line would count.
    monkeypatch.setattr(stage_database, "_dropped_reports", LogThrottle(stage_database.logger))


@pytest.fixture
def attempt() -> Any:
    from tests.adapters.attempt_runner import claim_attempt
    from tests.jobs.workflows import one_empty_stage

    return claim_attempt(one_empty_stage)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (None, ""),
        (7, "7"),
        (Path("a/b"), "a/b"),
        (b"x", "b'x'"),
        (Speechless(), "<Speechless>"),
        ("\x00\ud800", "\ufffd?"),
    ],
)
def test_progress_message_is_stored_as_text(attempt: Any, message: object, text: str) -> None:
    ctx = attempt.context()
    with attempt.recorded():
        ctx.progress(0.5, message)
    assert attempt.progress == [(0.5, text)]


@pytest.mark.parametrize(
    ("message", "text"), [(None, "None"), (7, "7"), (Path("a/b"), "a/b"), (Speechless(), "<Speechless>")]
)
def test_log_message_is_stored_as_text(attempt: Any, message: object, text: str) -> None:
    ctx = attempt.context()
    with attempt.recorded():
        ctx.log(message)
    assert attempt.messages == [text]


@pytest.mark.parametrize("progress", [math.nan, "abc", None, [], 1j, 10**400, Speechless()])
def test_progress_that_is_no_number_is_dropped_and_logged(
    attempt: Any, caplog: pytest.LogCaptureFixture, progress: Any
) -> None:
    ctx = attempt.context()
    with attempt.recorded():
        ctx.progress(0.25, "the last number")
        ctx.progress(progress, "dropped")
        ctx.flush_progress()
    assert attempt.progress == [(0.25, "the last number")]
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert line.startswith(f"Dropped a report of {ctx.workflow_id}/first: InvalidArgument: progress is ")
    assert line.endswith("; expected a number from 0 to 1.")


@pytest.mark.parametrize(
    ("progress", "stored"), [(-1, 0.0), (math.inf, 1.0), (-math.inf, 0.0), (True, 1.0), ("0.5", 0.5)]
)
def test_progress_outside_its_range_is_clamped(attempt: Any, progress: Any, stored: float) -> None:
    ctx = attempt.context()
    with attempt.recorded():
        ctx.progress(progress)
    assert attempt.progress == [(stored, "")]


@pytest.mark.both_databases
def test_report_that_the_database_rejects_is_dropped_and_logged(attempt: Any, caplog: pytest.LogCaptureFixture) -> None:
    ctx = attempt.context()
    with attempt.recorded():
        with transaction.atomic():
            transaction.set_rollback(True)
            ctx.log("in a transaction that is rolled back")
            ctx.progress(0.5)
        ctx.log("after it")
    assert (attempt.messages, attempt.progress) == (["after it"], [])
    lines = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    dropped = f"Dropped a report of {ctx.workflow_id}/first: TransactionManagementError: "
    assert [line.startswith(dropped) for line in lines] == [True, True]


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("valkey")
def test_report_waits_for_the_database_until_one_was_dropped(attempt: Any, caplog: pytest.LogCaptureFixture) -> None:
    from orchestration import signals

    calls = 0

    def lose_database(**_: Any) -> NoReturn:
        nonlocal calls
        calls += 1
        raise OperationalError("the connection is closed")

    with override_settings(MAHAVISHNU_ENGINE=EngineLimits(lease_seconds=1.0)):
        ctx = attempt.context()
        signals.stage_logged.connect(lose_database)
        try:
            ctx.log("waits")
            assert calls > 1
            calls = 0
            ctx.log("does not wait")
            assert calls == 1
        finally:
            signals.stage_logged.disconnect(lose_database)
        with attempt.recorded():
            ctx.log("stored")
    assert attempt.messages == ["stored"]
    dropped = f"Dropped a report of {ctx.workflow_id}/first: OperationalError: the connection is closed"
    assert [record.getMessage() for record in caplog.records].count(dropped) == 2


def test_streams_of_earlier_attempts_count() -> None:
    known = [str(number) for number in range(engine_limits().max_streams)]
    opened = OpenedStreams(None, known)
    assert opened.open("0", "text").name == "0"
    with pytest.raises(ValueError, match="Stream limit reached \\(16 in one stage, those of all attempts\\)"):
        opened.open("new", "text")
