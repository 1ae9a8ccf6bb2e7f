"""The rate one connection may send at: a token bucket, and how long it may stay empty."""

from __future__ import annotations

from enum import Enum, auto
from math import ceil

from realtime.limits import Limits


class Verdict(Enum):
    """What to do with a message."""

    ALLOWED = auto()
    REFUSED = auto()
    CLOSED = auto()


class RateLimit:
    """A bucket of `max_message_burst` tokens that fills at `max_messages_per_second`; every message takes one.

    A connection is over its rate from its first refused message until it sends nothing refused for a second. Once that
    has lasted `rate_limit_grace_seconds` it is to be closed.
    """

    _FORGIVEN_AFTER_SECONDS = 1.0

    def __init__(self, limits: Limits, *, now: float) -> None:
        self._per_second = limits.max_messages_per_second
        self._burst = limits.max_message_burst
        self._grace_seconds = limits.rate_limit_grace_seconds
        self._tokens = float(self._burst)
        self._filled_at = now
        self._over_since: float | None = None
        self._refused_at = now

    def take(self, *, now: float) -> Verdict:
        """Judge one message. `now` is in seconds, on a clock that never goes back."""
        self._tokens = min(self._tokens + (now - self._filled_at) * self._per_second, self._burst)
        self._filled_at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return Verdict.ALLOWED
        if self._over_since is None or now - self._refused_at > self._FORGIVEN_AFTER_SECONDS:
            self._over_since = now
        self._refused_at = now
        return Verdict.CLOSED if now - self._over_since > self._grace_seconds else Verdict.REFUSED

    @property
    def retry_after_ms(self) -> int:
        """How long until the next message would be allowed."""
        return max(ceil((1 - self._tokens) / self._per_second * 1000), 1)
