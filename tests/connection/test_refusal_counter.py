"""The counter of refused requests and credentials, with a fake clock."""

from __future__ import annotations

import pytest

from realtime.connection import auth_failures
from realtime.connection.auth_failures import AuthFailures
from realtime.connection.refusal_counter import RefusalCounter

START = 1000.0


@pytest.mark.parametrize(
    ("times", "reached_by"),
    [
        ((0, 0, 0), 2),
        ((0, 30, 59.9), 2),
        ((0, 30, 60, 89.9), 3),
        # At most two in any 60 s.
        ((0, 59, 60, 119, 120, 179), None),
    ],
)
def test_limit_is_reached_by_three_in_any_minute(times: tuple[float, ...], reached_by: int | None) -> None:
    counter = RefusalCounter(3)
    reached = [number for number, at in enumerate(times) if counter.add(now=START + at)]
    assert reached[:1] == ([] if reached_by is None else [reached_by])


def test_client_waits_for_a_minute_after_the_refusal_that_reached_the_limit_and_is_counted_anew() -> None:
    counter = RefusalCounter(2)
    assert [counter.add(now=START), counter.wait_seconds(now=START)] == [False, 0]
    assert counter.add(now=START + 50)
    assert [counter.wait_seconds(now=START + after) for after in (50, 80, 109, 110, 500)] == [60, 30, 1, 0, 0]
    assert not counter.add(now=START + 110)
    assert counter.add(now=START + 111)


def test_further_refusal_does_not_end_the_wait() -> None:
    counter = RefusalCounter(3)
    assert [counter.add(now=START + at) for at in (0, 30, 59, 95)] == [False, False, True, True]
    assert counter.wait_seconds(now=START + 95) == 24


def test_counter_without_a_limit_lets_no_client_wait() -> None:
    counter = RefusalCounter(0)
    assert not any(counter.add(now=START) for _ in range(1000))


def test_addresses_are_counted_apart_and_the_oldest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth_failures, "MAX_TRACKED_ADDRESSES", 2)
    failures = AuthFailures()
    for address in ("a", "b", "a", "c", None):
        failures.add(address, limit=1, now=START)
    waits = {address: failures.wait_seconds(address, now=START + 1) for address in ("a", "b", "c", "d", None)}
    assert waits == {"a": 59, "b": 0, "c": 59, "d": 0, None: 0}
