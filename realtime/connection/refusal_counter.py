"""Count what is refused to one client: forbidden requests, or its credentials. Too many in a minute are guesses."""

from __future__ import annotations

from collections import deque
from math import inf
from typing import Final

WINDOW_SECONDS: Final = 60.0
"""The time in which refusals are counted, and for which a client with too many of them has to wait."""


class RefusalCounter:
    """The refusals of one client in the last minute. Times are seconds on a monotonic clock.

    It keeps the times of `max_per_minute` refusals at most.

    Args:
        max_per_minute: How many in a minute make the client wait; 0: it never waits.
    """

    __slots__ = ("_times", "_waits_until")

    def __init__(self, max_per_minute: int) -> None:
        self._waits_until = -inf
        self._times: deque[float] = deque(maxlen=max_per_minute)

    def add(self, *, now: float) -> bool:
        """Count one, and return whether the limit is reached."""
        times = self._times
        times.append(now)
        if times and len(times) == times.maxlen and now - times[0] < WINDOW_SECONDS:
            self._waits_until = now + WINDOW_SECONDS
        return self.wait_seconds(now=now) > 0

    def wait_seconds(self, *, now: float) -> float:
        """Return how long the client has to wait: up to a minute after the refusal that reached the limit; else 0."""
        return max(self._waits_until - now, 0.0)
