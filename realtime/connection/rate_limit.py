"""Token buckets, and the rate limit of one connection: a bucket, and the time for which it may stay empty."""

from __future__ import annotations

from enum import Enum, auto
from math import ceil, inf

from realtime.limits import Limits
from realtime.protocol.errors import ErrorCode, RequestError


class TokenBucket:
    """A bucket that fills at a constant rate, up to its burst.

    Args:
        per_second: Tokens added a second.
        burst: Tokens of a full bucket.
        now: Seconds on a monotonic clock. The bucket is full then.

    Attributes:
        tokens: What is in the bucket since the last `fill`. It may be negative.
    """

    __slots__ = ("_filled_at", "burst", "per_second", "tokens")

    def __init__(self, per_second: float, burst: float, now: float) -> None:
        self.per_second = per_second
        self.burst = burst
        self.tokens = float(burst)
        self._filled_at = now

    def fill(self, now: float, *, at_most_seconds: float = inf) -> None:
        """Add the tokens for the time since the last call, or for its first `at_most_seconds`."""
        seconds = now - self._filled_at
        tokens = self.tokens + (seconds if seconds < at_most_seconds else at_most_seconds) * self.per_second
        self.tokens = tokens if tokens < self.burst else self.burst
        self._filled_at = now

    def take(self, now: float) -> bool:
        """Fill the bucket, and take one token; return whether there was one."""
        self.fill(now)
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    def seconds_until(self, tokens: float) -> float:
        """Return how long after the last `fill` the bucket has this many tokens."""
        return max((tokens - self.tokens) / self.per_second, 0.0)

    @property
    def retry_after_ms(self) -> int:
        """Milliseconds from the last `fill` until there is one token; at least 1."""
        return max(ceil(self.seconds_until(1) * 1000), 1)


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
        self._bucket = TokenBucket(limits.max_messages_per_second, limits.max_message_burst, now)
        self._limits = limits
        self._exceeded_since: float | None = None
        self._rejected_at = now

    def take(self, *, now: float) -> Verdict:
        """Take a token for one message. `now` is in seconds, on a monotonic clock."""
        if self._bucket.take(now):
            return Verdict.ALLOWED
        if self._exceeded_since is None or now - self._rejected_at > self._RECOVERY_SECONDS:
            self._exceeded_since = now
        self._rejected_at = now
        is_closed = now - self._exceeded_since > self._limits.rate_limit_grace_seconds
        return Verdict.CLOSED if is_closed else Verdict.REJECTED

    @property
    def retry_after_ms(self) -> int:
        """Milliseconds until the next message would be allowed; at least 1."""
        return self._bucket.retry_after_ms

    def error(self, verdict: Verdict) -> RequestError:
        """Return the error for a message that was rejected, or for the end of the connection."""
        limits = self._limits
        exceeded = (
            f"Rate limit exceeded ({limits.max_messages_per_second:g} messages/s, burst {limits.max_message_burst})"
        )
        if verdict is Verdict.CLOSED:
            message = f"{exceeded} for more than {limits.rate_limit_grace_seconds:g} s"
        else:
            message = f"{exceeded}; message discarded"
        return RequestError(ErrorCode.RATE_LIMIT_EXCEEDED, message, retry_after_ms=self.retry_after_ms)
