"""The end of a connection whose credentials expire: announced before, and enforced on the wall clock.

Tokens expire on the wall clock, and timers run on the monotonic one. So the clock is looked at again and again: it may
be set while a connection is open.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

MAX_LOOK_SECONDS: Final = 30.0
"""How long the wall clock is not looked at."""

_MIN_LOOK_SECONDS: Final = 0.01

MIN_NOTICE_SECONDS: Final = 10.0
NOTICE_PART: Final = 0.1
"""The announcement comes 10 seconds or a tenth of the lifetime before the end, the longer of both, ..."""

MAX_NOTICE_PART: Final = 0.5
"""... and at most half of the lifetime before it."""


def notice_seconds(lifetime_seconds: float) -> float:
    """Return how long before its end a lifetime is announced to end."""
    longer = max(MIN_NOTICE_SECONDS, NOTICE_PART * lifetime_seconds)
    return min(longer, MAX_NOTICE_PART * lifetime_seconds)


class ExpiryTimer:
    """Announces and enforces one expiry.

    Args:
        expires_at: When the credentials expire, in seconds since the epoch.
        begun_at: When they were issued, or presented.
        on_expiring: Called once, when the announcement is due.
        on_expired: Called once, at the end.
    """

    __slots__ = ("_is_announced", "_notice_at", "_on_expired", "_on_expiring", "_timer", "expires_at")

    def __init__(
        self,
        *,
        expires_at: float,
        begun_at: float,
        on_expiring: Callable[[], None],
        on_expired: Callable[[], None],
    ) -> None:
        self.expires_at = expires_at
        self._notice_at = expires_at - notice_seconds(max(expires_at - begun_at, 0.0))
        self._on_expiring = on_expiring
        self._on_expired = on_expired
        self._is_announced = False
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Look at the clock now, and from then on."""
        now = time.time()
        if now >= self.expires_at:
            self._timer = None
            self._on_expired()
            return
        if now >= self._notice_at and not self._is_announced:
            self._is_announced = True
            self._on_expiring()
        next_at = self.expires_at if self._is_announced else self._notice_at
        delay = min(max(next_at - now, _MIN_LOOK_SECONDS), MAX_LOOK_SECONDS)
        self._timer = asyncio.get_running_loop().call_later(delay, self.start)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
