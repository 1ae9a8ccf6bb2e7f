"""When the end of credentials is announced and enforced. The wall clock is the only part that is not real."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

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


class ManualLoop:
    """An event loop that calls a callback when the test asks for it, at the time of the callback on the wall clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000_000.0
        self.delays: list[float] = []
        self._callback: Callable[[], None] | None = None
        monkeypatch.setattr(time, "time", lambda: self.now)
        monkeypatch.setattr(asyncio, "get_running_loop", lambda: self)

    def call_later(self, delay: float, callback: Callable[[], None]) -> None:
        self.delays.append(delay)
        self._callback = callback

    def call_next(self) -> bool:
        """Set the clock to the time of the callback, and call it. Return False if there is none."""
        callback, self._callback = self._callback, None
        if callback is None:
            return False
        self.now += self.delays[-1]
        callback()
        return True


def test_timer_announces_once_and_then_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = ManualLoop(monkeypatch)
    began = loop.now
    calls: list[tuple[str, float]] = []
    timer = ExpiryTimer(
        expires_at=began + 100,
        begun_at=began,
        on_expiring=lambda: calls.append(("expiring", loop.now - began)),
        on_expired=lambda: calls.append(("expired", loop.now - began)),
    )
    timer.start()
    assert calls == []
    while loop.call_next():
        assert len(loop.delays) < 10
    assert calls == [("expiring", 90), ("expired", 100)]
    assert loop.delays == [30, 30, 30, 10]


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
