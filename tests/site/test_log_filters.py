"""The filters of `mahavishnu_site.log_filters`."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest
from celery.exceptions import Reject, WorkerLostError
from redis.exceptions import ConnectionError as RedisConnectionError

from mahavishnu_site.log_filters import DropTracebackFilter, RateLimitFilter


def record_of(error: Exception, *, at_seconds: float) -> logging.LogRecord:
    """Return the record that the channel layer logs for an error."""
    try:
        raise error
    except Exception:
        raised = sys.exc_info()
    record = logging.LogRecord("channels_redis.pubsub", logging.ERROR, __file__, 1, "Unexpected", None, raised)
    record.created = at_seconds
    return record


@pytest.mark.parametrize("error", [RedisConnectionError("Connection refused"), ConnectionRefusedError(111, "refused")])
def test_rate_limit_filter_passes_one_lost_connection_a_minute(error: Exception) -> None:
    rate_limit = RateLimitFilter()
    records = [record_of(error, at_seconds=seconds) for seconds in (0, 1, 59, 60, 61, 30)]
    # The clock is set back before the last one.
    assert [rate_limit.filter(record) for record in records] == [True, False, False, True, False, True]
    assert logging.Formatter("%(levelname)s %(message)s").format(records[0]) == (
        f"WARNING The channel layer has no connection to Redis ({error!r})"
    )


def test_rate_limit_filter_keeps_the_traceback_of_other_errors() -> None:
    rate_limit = RateLimitFilter()
    for _ in range(2):
        record = record_of(KeyError("channel"), at_seconds=0)
        assert rate_limit.filter(record) is True
        shown = logging.Formatter("%(levelname)s %(message)s").format(record)
        assert shown.startswith("ERROR Unexpected\nTraceback") and shown.endswith("KeyError: 'channel'")
        assert Path(__file__).name in shown


def test_settings_install_the_rate_limit_filter() -> None:
    assert [type(each) for each in logging.getLogger("channels_redis.pubsub").filters] == [RateLimitFilter]


def log_exception(error: Exception, caplog: pytest.LogCaptureFixture, *, logger: str) -> str:
    """Log the error with its traceback, and return the formatted record."""
    try:
        raise error
    except Exception:
        logging.getLogger(logger).exception("It happened")
    (record,) = [record for record in caplog.records if record.name == logger]
    return logging.Formatter("%(levelname)s %(message)s").format(record)


@pytest.mark.parametrize(
    ("logger", "error"),
    [("celery.worker.request", WorkerLostError("signal 9")), ("celery.app.trace", Reject("not mine", requeue=True))],
)
def test_drop_traceback_filter_shortens_expected_errors(
    logger: str, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    assert log_exception(error, caplog, logger=logger) == "ERROR It happened"


@pytest.mark.parametrize("logger", ["celery.worker.request", "celery.app.trace"])
def test_drop_traceback_filter_keeps_the_traceback_of_other_errors(
    logger: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert [type(each) for each in logging.getLogger(logger).filters] == [DropTracebackFilter]
    shown = log_exception(KeyError("stage"), caplog, logger=logger)
    assert shown.startswith("ERROR It happened\nTraceback") and shown.endswith("KeyError: 'stage'")
