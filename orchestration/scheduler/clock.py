"""When a scheduler may expire workers and leases: not after it was suspended, or the clock of the database was set."""

from __future__ import annotations

import logging
import time
from datetime import datetime

from orchestration.limits import EngineLimits

logger = logging.getLogger(__name__)


class SchedulerClock:
    """Compares the clock of the database with the time that passes here.

    Args:
        limits: After which time without heartbeats workers and leases expire.
    """

    def __init__(self, limits: EngineLimits) -> None:
        self._limits = limits
        # The database clock in the last pass, and the monotonic clock at that moment.
        self._clocks: tuple[datetime, float] | None = None
        # When the last action ended.
        self._active_at = time.monotonic()
        self._expire_from = 0.0
        self.postpone_expiry()

    def record_activity(self) -> None:
        """Note that an action has just ended."""
        self._active_at = time.monotonic()

    def may_expire(self) -> bool:
        """Return whether workers and leases without heartbeats may expire now."""
        return time.monotonic() >= self._expire_from

    def detect_suspension(self) -> None:
        """Postpone expiry if this scheduler has made no step for a while: the workers may have been suspended too."""
        idle_seconds = time.monotonic() - self._active_at
        self._active_at = time.monotonic()
        if idle_seconds > self._longest_trusted_seconds:
            logger.warning(
                "The scheduler was suspended or waited for %.0f s; it expires no worker or lease for %g s",
                idle_seconds,
                self.postpone_expiry(),
            )

    def detect_step(self, now: datetime) -> None:
        """Postpone expiry if the database clock was set forward: heartbeats and leases then seem to be old."""
        at = time.monotonic()
        if self._clocks is not None:
            step_seconds = (now - self._clocks[0]).total_seconds() - (at - self._clocks[1])
            if step_seconds > self._longest_trusted_seconds:
                grace_seconds = self.postpone_expiry()
                logger.warning(
                    "The database clock advanced by %.0f s more than this machine's; "
                    "the scheduler expires no worker or lease for %g s",
                    step_seconds,
                    grace_seconds,
                )
        self._clocks = now, at

    def postpone_expiry(self) -> float:
        """Expire nothing until workers had time for new heartbeats. Return how many seconds that is."""
        grace_seconds = max(self._limits.lease_seconds, self._limits.worker_timeout_seconds)
        self._expire_from = time.monotonic() + grace_seconds
        return grace_seconds

    @property
    def _longest_trusted_seconds(self) -> float:
        """After a longer time without a look, missing heartbeats mean nothing. An interval is at most half of both."""
        return min(self._limits.lease_seconds, self._limits.worker_timeout_seconds) / 2
