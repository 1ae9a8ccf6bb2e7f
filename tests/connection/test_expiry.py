"""When the end of credentials is announced and enforced. The wall clock is the only part that is not real."""

from __future__ import annotations

import time

import pytest

from realtime.connection import expiry
from realtime.connection.expiry import ExpiryTimer, notice_seconds
from tests.harness.waiting import eventually


@pytest.mark.parametrize(
    ("lifetime_seconds", "expected_seconds"),
    [(4, 2), (20, 10), (60, 10), (100, 10), (3600, 360), (86400, 8640), (0, 0)],
)
def test_notice_comes_ten_seconds_or_a_tenth_before_and_at_most_half(
    lifetime_seconds: float, expected_seconds: float
) -> None:
    assert notice_seconds(lifetime_seconds) == pytest.approx(expected_seconds)


class Clock:
    """A wall clock that a test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead_seconds = 0.0
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + self.ahead_seconds)


async def test_timer_announces_once_and_then_ends() -> None:
    calls: list[str] = []
    now = time.time()
    timer = ExpiryTimer(
        expires_at=now + 0.3,
        begun_at=now,
        on_expiring=lambda: calls.append("expiring"),
        on_expired=lambda: calls.append("expired"),
    )
    timer.start()
    assert calls == []
    await eventually(lambda: calls == ["expiring"], what="the announcement")
    assert time.time() < now + 0.3
    await eventually(lambda: calls == ["expiring", "expired"], what="the end")
    assert now + 0.3 <= time.time() < now + 1.3


async def test_step_of_the_wall_clock_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    monkeypatch.setattr(expiry, "MAX_LOOK_SECONDS", 0.05)
    calls: list[str] = []
    now = time.time()
    timer = ExpiryTimer(
        expires_at=now + 3600,
        begun_at=now,
        on_expiring=lambda: calls.append("expiring"),
        on_expired=lambda: calls.append("expired"),
    )
    timer.start()
    clock.ahead_seconds = 3300
    await eventually(lambda: calls == ["expiring"], what="the announcement")
    clock.ahead_seconds = 3600
    await eventually(lambda: calls == ["expiring", "expired"], what="the end")


def test_wall_clock_is_looked_at_every_thirty_seconds() -> None:
    assert expiry.MAX_LOOK_SECONDS <= 30
