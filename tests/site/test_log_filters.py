"""The filters of `mahavishnu_site.log_filters`."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest
from celery.exceptions import Reject, WorkerLostError
from django.test import override_settings
from redis.exceptions import ConnectionError as RedisConnectionError

from mahavishnu_site.log_filters import MAX_KINDS, ClientRecordFilter, DropTracebackFilter, RateLimitFilter
from orchestration.log_throttle import LogThrottle, OutageLog


def record_of(error: Exception) -> logging.LogRecord:
    """Return the record that the channel layer logs for an error."""
    try:
        raise error
    except Exception:
        raised = sys.exc_info()
    return logging.LogRecord("channels_redis.pubsub", logging.ERROR, __file__, 1, "Unexpected", None, raised)


@pytest.mark.parametrize("error", [RedisConnectionError("Connection refused"), ConnectionRefusedError(111, "refused")])
def test_rate_limit_filter_passes_one_lost_connection_in_an_interval(error: Exception) -> None:
    rate_limit = RateLimitFilter(interval_seconds=3600)
    records = [record_of(error) for _ in range(3)]
    assert [rate_limit.filter(record) for record in records] == [True, False, False]
    rate_limit = RateLimitFilter(interval_seconds=0)
    assert [rate_limit.filter(record_of(error)) for _ in range(3)] == [True, True, True]
    assert logging.Formatter("%(levelname)s %(message)s").format(records[0]) == (
        f"WARNING The channel layer has no connection to Redis ({error!r})"
    )


def test_rate_limit_filter_keeps_the_traceback_of_other_errors() -> None:
    rate_limit = RateLimitFilter()
    for _ in range(2):
        record = record_of(KeyError("channel"))
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


def client_record(
    message: str = "Not Found: %s",
    *args: object,
    name: str = "django.request",
    error: BaseException | None = None,
    status_code: int | None = None,
) -> logging.LogRecord:
    raised = None if error is None else (type(error), error, error.__traceback__)
    record = logging.LogRecord(name, logging.WARNING, __file__, 1, message, args, raised)
    if status_code is not None:
        record.status_code = status_code
    return record


def shown(client_filter: ClientRecordFilter, *records: logging.LogRecord) -> list[str]:
    """Return what two handlers with the same filter write."""
    passed = [record for record in records if [client_filter.filter(record) for _ in range(2)] == [True, True]]
    return [logging.Formatter("%(message)s").format(record) for record in passed]


def test_client_filter_passes_each_kind_once() -> None:
    client_filter = ClientRecordFilter(interval_seconds=3600)
    records = [client_record("Not Found: %s", f"/{number}") for number in range(5)]
    others = [client_record("Forbidden: %s", "/"), client_record("Not Found: %s", "/", name="django.security.csrf")]
    assert shown(client_filter, *records, *others) == ["Not Found: /0", "Forbidden: /", "Not Found: /"]


def test_client_filter_recognizes_a_message_that_contains_its_values() -> None:
    records = [client_record(f"Invalid HTTP_HOST header: {number}") for number in range(5)]
    assert shown(ClientRecordFilter(interval_seconds=3600), *records) == ["Invalid HTTP_HOST header: 0"]


def test_client_filter_counts_what_it_left_out() -> None:
    client_filter = ClientRecordFilter(interval_seconds=3600)
    assert shown(client_filter, *[client_record("%s", number) for number in range(3)]) == ["0"]
    client_filter._interval_seconds = 0
    assert shown(client_filter, *[client_record("%s", number) for number in range(2)]) == [
        "0 (2 such lines were left out since the last one)",
        "1",
    ]


def raised_by(raising: str) -> Exception:
    try:
        exec(compile(raising, raising, "exec"))
    except Exception as error:
        return error
    raise AssertionError


def test_client_filter_distinguishes_exceptions_by_type_and_place() -> None:
    errors = [raised_by(code) for code in ("int('a')", "int('b')", "int('a')", "[][1]")]
    records = [client_record("Internal Server Error: %s", "/", error=error, status_code=500) for error in errors]
    lines = shown(ClientRecordFilter(interval_seconds=3600), *records)
    assert [line.splitlines()[-1] for line in lines] == [
        "ValueError: invalid literal for int() with base 10: 'a'",
        "ValueError: invalid literal for int() with base 10: 'b'",
        "IndexError: list index out of range",
    ]


def test_client_filter_removes_the_traceback_of_a_wrong_request_and_cuts_its_line() -> None:
    record = client_record("Bad request: %s", "x" * 5000, error=raised_by("int('a')"), status_code=400)
    (line,) = shown(ClientRecordFilter(), record)
    assert (len(line), line[:20], line[-1]) == (1000, "Bad request: xxxxxxx", "…")


def test_client_filter_passes_other_loggers_unchanged() -> None:
    records = [client_record("%s", "x" * 5000, name=name) for name in ("orchestration.scheduler", "django", "daphnes")]
    assert shown(ClientRecordFilter(interval_seconds=3600), *records, *records) == ["x" * 5000] * 6


class Lines(logging.Handler):
    """Collects what a handler with this filter writes."""

    def __init__(self, client_filter: ClientRecordFilter) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.addFilter(client_filter)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.mark.parametrize("name", ["realtime.health.checks", "orchestration.worker.message"])
def test_throttled_line_is_counted_once_and_dropped_once(name: str) -> None:
    logger = logging.Logger(name)
    client_filter = ClientRecordFilter(interval_seconds=3600)
    handlers = [Lines(client_filter), Lines(client_filter)]
    for handler in handlers:
        logger.addHandler(handler)
    throttle = LogThrottle(logger)
    with override_settings(MAHAVISHNU_LOG_REPEAT_SECONDS=3600):
        for number in range(3):
            throttle.log("Number %d", number)
    with override_settings(MAHAVISHNU_LOG_REPEAT_SECONDS=0):
        for number in range(3, 5):
            throttle.log("Number %d", number)
    for handler in handlers:
        assert handler.lines == [
            "Number 0",
            "Number 3 (2 such lines were left out since the last one)",
            "Number 4",
        ]


def test_throttle_logs_a_bounded_number_of_lines_in_an_interval() -> None:
    logger = logging.Logger("realtime.security")
    logger.addHandler(handler := Lines(ClientRecordFilter(interval_seconds=3600)))
    throttle = LogThrottle(logger, max_lines=2)
    with override_settings(MAHAVISHNU_LOG_REPEAT_SECONDS=3600):
        for number in range(4):
            throttle.log("Number %d", number)
    with override_settings(MAHAVISHNU_LOG_REPEAT_SECONDS=0):
        throttle.log("Number %d", 4)
    assert handler.lines == ["Number 0", "Number 1", "Number 4 (2 such lines were left out since the last one)"]


def test_client_filter_cuts_a_throttled_line() -> None:
    logger = logging.Logger("realtime.consumers")
    logger.addHandler(handler := Lines(ClientRecordFilter()))
    LogThrottle(logger).log("%s", "x" * 5000)
    assert [len(line) for line in handler.lines] == [1000]


def test_client_filter_remembers_a_bounded_number_of_kinds() -> None:
    client_filter = ClientRecordFilter(interval_seconds=3600)
    for number in range(2 * MAX_KINDS):
        client_filter.filter(client_record(f"{number} %s", 1))
    assert len(client_filter._kinds) == MAX_KINDS


def test_settings_install_one_client_filter_for_both_handlers() -> None:
    handlers = [handler for handler in logging.getLogger().handlers if handler.get_name() in ("console", "file")]
    filters = [each for handler in handlers for each in handler.filters if isinstance(each, ClientRecordFilter)]
    assert len(filters) == 2 and filters[0] is filters[1]


def test_outage_has_one_line_at_its_begin_and_one_at_its_end(caplog: pytest.LogCaptureFixture) -> None:
    outage = OutageLog(logging.getLogger("parts"), failed="Part unavailable (%s)", recovered="Available; %d lost")
    assert outage.record_success(0) is False
    for _ in range(2):
        outage.record_failure("first")
        outage.record_failure("second")
        assert outage.is_active
        assert [outage.record_success(lost) for lost in (3, 4)] == [True, False]
    assert not outage.is_active
    assert [record.getMessage() for record in caplog.records] == 2 * ["Part unavailable (first)", "Available; 3 lost"]
