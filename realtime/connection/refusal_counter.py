"""Count what is refused to one client: forbidden requests, or its credentials. Too many in a minute are guesses."""

from __future__ import annotations

from collections import deque
from typing import Final

WINDOW_SECONDS: Final = 60.0
"""The time in which refusals are counted, and for which a client with too many of them has to wait."""


class RefusalCounter:
    """The refusals of one client in the last minute. Times are seconds on a monotonic clock.

    It keeps the times of `max_per_minute` refusals at most.

    Args:
        max_per_minute: How many in a minute make the client wait; 0: it never waits.
    """

    __slots__ = ("_max_per_minute", "_times")

    def __init__(self, max_per_minute: int) -> None:
        self._max_per_minute = max_per_minute
        self._times: deque[float] = deque(maxlen=max_per_minute)

    def add(self, *, now: float) -> bool:
        """Count one, and return whether the limit is reached."""
        self._times.append(now)
        return self.wait_seconds(now=now) > 0

    def wait_seconds(self, *, now: float) -> float:
        """Return how long the client has to wait: up to a minute after the refusal that reached the limit; else 0."""
        times = self._times
        if not times or len(times) < self._max_per_minute or times[-1] - times[0] >= WINDOW_SECONDS:
            return 0.0
        return max(times[-1] + WINDOW_SECONDS - now, 0.0)
