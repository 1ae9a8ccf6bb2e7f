"""The checks behind the health report: made at most once a second, and shared by all requests."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Final

from django.conf import settings

from orchestration.log_throttle import LogThrottle
from realtime.event_loop import PerLoop
from realtime.eventlog.position import Position
from realtime.health.database_check import DatabaseCheck
from realtime.health.redis_check import RedisCheck
from realtime.limits import Limits
from realtime.runtime import ensure_relay

logger = logging.getLogger(__name__)

CHECK_TIMEOUT_SECONDS: Final = 2.0
"""A part that does not answer within this time is reported as down."""

CACHE_SECONDS: Final = 1.0
"""How long the results are used again. Without it, 180 requests a second took a whole core."""

_RELAY_STALL_SECONDS: Final = 5.0
"""A relay that has not read the event log for this long is reported as down."""

_database_down = LogThrottle(logger)
_redis_down = LogThrottle(logger)
_relay_down = LogThrottle(logger)


@dataclass(frozen=True, kw_only=True, slots=True)
class Results:
    """What the checks found.

    Attributes:
        position: Position of the event log; None while the database is down.
        is_redis_up: Whether every Redis of the channel layer answers.
        relay: `up` if the relay runs and reads the event log, else `down`; `off` if this process has none.
        scheduler: `up`; `down` if it has no recent heartbeat; `off` if none was started; None while the database is
            down.
        problems: A sentence for each part that is down or cannot be written.
    """

    position: Position | None
    is_redis_up: bool
    relay: str
    scheduler: str | None
    problems: list[str]


class HealthChecks:
    """The checks of one event loop. Concurrent callers share one check."""

    def __init__(self, limits: Limits) -> None:
        self._database = DatabaseCheck(write_interval_seconds=limits.write_probe_interval_seconds)
        self._redis = RedisCheck()
        self._results: Results | None = None
        self._checked_at = 0.0
        self._checking: asyncio.Task[Results] | None = None

    async def results(self) -> Results:
        """Return the results of the last check, or of a new one if they are older than `CACHE_SECONDS`."""
        if self._results is not None and asyncio.get_running_loop().time() - self._checked_at < CACHE_SECONDS:
            return self._results
        # A client that leaves must not end the check of the others.
        return await asyncio.shield(self._start())

    def _start(self) -> asyncio.Task[Results]:
        if self._checking is None:
            self._checking = asyncio.create_task(self._check())
        return self._checking

    async def _check(self) -> Results:
        loop = asyncio.get_running_loop()
        try:
            (position, database_problem), redis = await asyncio.gather(
                self._check_database(), self._redis.run(timeout_seconds=CHECK_TIMEOUT_SECONDS)
            )
            if redis.error is not None:
                _redis_down.log("Health check: Redis unavailable (%r); reporting 503", redis.error)
            needs_relay = settings.MAHAVISHNU_SERVES != "pages"
            relay_problem = await _check_relay() if needs_relay and position is not None else None
            is_relay_up = position is not None and relay_problem is None
            write_problem = self._database.write_problem if position is not None else None
            scheduler = self._database.scheduler if position is not None else None
            found = (
                database_problem,
                write_problem,
                redis.problem,
                redis.write_problem,
                relay_problem,
                scheduler.problem if scheduler is not None else None,
            )
            self._results = Results(
                position=position,
                is_redis_up=redis.problem is None,
                relay=("up" if is_relay_up else "down") if needs_relay else "off",
                scheduler=scheduler.status if scheduler is not None else None,
                problems=[problem for problem in found if problem is not None],
            )
            self._checked_at = loop.time()
            return self._results
        finally:
            self._checking = None
            if self._database.waits_for_lock:
                # Whether the lock is ever free must not depend on how often the report is read.
                loop.call_later(CACHE_SECONDS, self._start)

    async def _check_database(self) -> tuple[Position | None, str | None]:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
                return await self._database.run(), None
        except Exception as error:
            # Each driver has its own exceptions. The report is public, so it contains only the class.
            _database_down.log("Health check: database unavailable (%r); reporting 503", error)
            return None, f"database: unavailable ({type(error).__name__})"


async def _check_relay() -> str | None:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
            relay = await ensure_relay()
    except Exception as error:
        _relay_down.log("Health check: the relay could not start (%r); reporting 503", error)
        return f"relay: could not start ({type(error).__name__})"
    stalled_seconds = asyncio.get_running_loop().time() - relay.polled_at
    if stalled_seconds > _RELAY_STALL_SECONDS:
        return f"relay: has not read the event log for {stalled_seconds:.0f} s"
    return None


_checks: PerLoop[HealthChecks] = PerLoop()


def health_checks() -> HealthChecks:
    """Return the checks of this process."""
    return _checks.get(lambda: HealthChecks(settings.MAHAVISHNU_LIMITS))
