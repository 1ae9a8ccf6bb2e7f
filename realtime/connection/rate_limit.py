"""The rate limit of one connection: a token bucket, and the time for which it may stay empty."""

from __future__ import annotations

from enum import Enum, auto
from math import ceil

from realtime.limits import Limits


class Verdict(Enum):
    """The rate limit's decision about one message."""

    ALLOWED = auto()
    REJECTED = auto()
    CLOSED = auto()


class RateLimit:
    """A bucket of `max_message_burst` tokens that fills at `max_messages_per_second`; every message takes one.

    A connection exceeds its rate from its first rejected message until one second passes without a rejection. It must
    be closed if this lasts longer than `rate_limit_grace_seconds`.
    """

    _RECOVERY_SECONDS = 1.0

    def __init__(self, limits: Limits, *, now: float) -> None:
        self._per_second = limits.max_messages_per_second
        self._burst = limits.max_message_burst
        self._grace_seconds = limits.rate_limit_grace_seconds
        self._tokens = float(self._burst)
        self._filled_at = now
        self._exceeded_since: float | None = None
        self._rejected_at = now

    def take(self, *, now: float) -> Verdict:
        """Take a token for one message. `now` is in seconds, on a monotonic clock."""
        self._tokens = min(self._tokens + (now - self._filled_at) * self._per_second, self._burst)
        self._filled_at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return Verdict.ALLOWED
        if self._exceeded_since is None or now - self._rejected_at > self._RECOVERY_SECONDS:
            self._exceeded_since = now
        self._rejected_at = now
        return Verdict.CLOSED if now - self._exceeded_since > self._grace_seconds else Verdict.REJECTED

    @property
    def retry_after_ms(self) -> int:
        """Milliseconds until the next message would be allowed; at least 1."""
        return max(ceil((1 - self._tokens) / self._per_second * 1000), 1)
