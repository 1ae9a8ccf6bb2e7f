"""What the engine expects is a line in the log, without a stack trace."""

from __future__ import annotations

import logging

import pytest
from celery.exceptions import Reject, WorkerLostError

from mahavishnu_site.log_filters import DropTracebackFilter


def logged(error: Exception, caplog: pytest.LogCaptureFixture, *, by: str) -> str:
    try:
        raise error
    except Exception:
        logging.getLogger(by).exception("It happened")
    (record,) = caplog.records
    return logging.Formatter("%(levelname)s %(message)s").format(record)


@pytest.mark.parametrize(
    ("by", "error"),
    [("celery.worker.request", WorkerLostError("signal 9")), ("celery.app.trace", Reject("not mine", requeue=True))],
)
def test_what_the_engine_looks_after_is_one_line(by: str, error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    assert logged(error, caplog, by=by) == "ERROR It happened"


@pytest.mark.parametrize("by", ["celery.worker.request", "celery.app.trace"])
def test_a_mistake_in_the_code_keeps_its_stack_trace(by: str, caplog: pytest.LogCaptureFixture) -> None:
    assert [type(each) for each in logging.getLogger(by).filters] == [DropTracebackFilter]
    shown = logged(KeyError("stage"), caplog, by=by)
    assert shown.startswith("ERROR It happened\nTraceback") and shown.endswith("KeyError: 'stage'")
