"""An outage of Redis is a line in the log, not the whole log."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from mahavishnu_site.log_filters import RateLimitFilter


def record_of(error: Exception, *, at_seconds: float) -> logging.LogRecord:
    try:
        raise error
    except Exception:
        raised = sys.exc_info()
    record = logging.LogRecord("channels_redis.pubsub", logging.ERROR, __file__, 1, "Unexpected", None, raised)
    record.created = at_seconds
    return record


@pytest.mark.parametrize("error", [RedisConnectionError("Connection refused"), ConnectionRefusedError(111, "refused")])
def test_a_lost_connection_is_one_line_a_minute(error: Exception) -> None:
    outages = RateLimitFilter()
    records = [record_of(error, at_seconds=seconds) for seconds in (0, 1, 59, 60, 61, 30)]
    # The last one is from a clock that was set back.
    assert [outages.filter(record) for record in records] == [True, False, False, True, False, True]
    assert logging.Formatter("%(levelname)s %(message)s").format(records[0]) == (
        f"WARNING The channel layer has no connection to Redis ({error!r})"
    )


def test_a_mistake_in_the_code_keeps_its_stack_trace() -> None:
    outages = RateLimitFilter()
    for _ in range(2):
        record = record_of(KeyError("channel"), at_seconds=0)
        assert outages.filter(record) is True
        shown = logging.Formatter("%(levelname)s %(message)s").format(record)
        assert shown.startswith("ERROR Unexpected\nTraceback") and shown.endswith("KeyError: 'channel'")
        assert Path(__file__).name in shown


def test_the_settings_hold_the_channel_layer_to_it() -> None:
    assert [type(each) for each in logging.getLogger("channels_redis.pubsub").filters] == [RateLimitFilter]
