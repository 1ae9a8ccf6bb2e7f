"""The bytes of replays, snapshots and lists that one connection may take."""

from __future__ import annotations

import asyncio

from realtime.connection.rate_limit import TokenBucket
from realtime.limits import Limits
from realtime.protocol.errors import ErrorCode, RequestError


class ReplayBudget:
    """A bucket of `max_replay_burst_bytes` that fills at `max_replay_bytes_per_second`, and that may be overdrawn.

    A replay that has begun is always finished. What it takes beyond the burst delays the next one.
    """

    __slots__ = ("_bucket", "_limits")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._bucket = TokenBucket(
            per_second=limits.max_replay_bytes_per_second, burst=limits.max_replay_burst_bytes, now=_now()
        )

    def check(self) -> None:
        """Check that the connection may begin another replay, snapshot or list.

        Raises:
            RequestError: with `RATE_LIMIT_EXCEEDED` and the time to wait.
        """
        self._bucket.fill(_now())
        if self._bucket.tokens < 1:
            raise RequestError(
                ErrorCode.RATE_LIMIT_EXCEEDED,
                f"Replay limit exceeded ({self._limits.max_replay_bytes_per_second:.15g} bytes/s of replays, "
                f"snapshots and lists, burst {self._limits.max_replay_burst_bytes}); the subscriptions are unchanged",
                retry_after_ms=self._bucket.retry_after_ms,
            )

    def charge(self, size_bytes: int) -> None:
        """Charge for the bytes of a chunk or a snapshot.

        Those that other connections share, or that were cached, are charged in full: the client still takes them, and
        its budget does not depend on what others do.
        """
        self._bucket.tokens -= size_bytes


def _now() -> float:
    return asyncio.get_running_loop().time()
