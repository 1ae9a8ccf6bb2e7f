"""The health report of one server process, for `GET /health`."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from django.conf import settings
from redis.asyncio import Redis

from realtime.broadcast.relay import Relay
from realtime.connection.registry import connection_registry
from realtime.database import in_health_thread
from realtime.eventlog.position import Position, current_position
from realtime.limits import Limits
from realtime.runtime import ensure_relay, relay_if_running

logger = logging.getLogger(__name__)

CHECK_TIMEOUT_SECONDS = 2.0
"""A part that does not answer within this time is reported as down."""

_RELAY_STALL_SECONDS = 5.0
"""A relay that has not read the event log for this long is reported as down."""


async def check_health(*, host: str, port: int) -> dict[str, Any]:
    """Check every part and return the JSON-encodable report. Takes at most about two check timeouts.

    `status` is `healthy`, `unhealthy`, or `draining` while the process stops and accepts no new connections. `problems`
    has one line for each part that is down. The first seven fields are those of the API reference's health check.
    Counters are reported even if parts are down. `log_seq` and `log_epoch` are null while the database is down.
    `relay_lag_ms` is the time from the last event to its delivery.

    Args:
        host: Address this process listens on.
        port: Port this process listens on; 0 for a Unix socket.
    """
    limits: Limits = settings.MAHAVISHNU_LIMITS
    (position, database_problem), redis_problem = await asyncio.gather(_check_database(), _check_redis())
    needs_relay = settings.MAHAVISHNU_SERVES != "pages"
    relay, relay_problem = await _check_relay() if needs_relay and database_problem is None else (None, None)
    running_relay = relay_if_running()
    problems = [problem for problem in (database_problem, redis_problem, relay_problem) if problem is not None]
    return {
        "status": _status(problems),
        "host": host,
        "port": port,
        "connections": len(connection_registry),
        # A room that is still opening has no live subscribers yet.
        "rooms": sum(room.is_open for room in running_relay.rooms.values()) if running_relay is not None else 0,
        "max_connections": limits.max_connections,
        "message_rate_limit": limits.max_messages_per_second,
        "database": "up" if database_problem is None else "down",
        "redis": "up" if redis_problem is None else "down",
        "relay": _relay_status(relay, relay_problem) if needs_relay else "off",
        "log_seq": position.seq if position is not None else None,
        "log_epoch": position.epoch if position is not None else None,
        "relay_lag_ms": round(relay.coalescer.lag_ms, 1) if relay is not None else None,
        "delivered_events": running_relay.coalescer.delivered_events if running_relay is not None else 0,
        "large_events": running_relay.coalescer.large_events if running_relay is not None else 0,
        "problems": problems,
    }


def _relay_status(relay: Relay | None, problem: str | None) -> str:
    return "up" if relay is not None and problem is None else "down"


def _status(problems: list[str]) -> str:
    if connection_registry.is_draining:
        return "draining"
    return "unhealthy" if problems else "healthy"


async def _check_database() -> tuple[Position | None, str | None]:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
            return await in_health_thread(current_position), None
    except Exception as error:
        # Each driver has its own exceptions. The report is public, so it contains only the class.
        logger.warning("Health check: database unavailable (%r); reporting 503", error)
        return None, f"database: unavailable ({type(error).__name__})"


async def _check_redis() -> str | None:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
            for url in settings.MAHAVISHNU_REDIS_URLS:
                async with Redis.from_url(url) as client:
                    await client.ping()
    except Exception as error:
        logger.warning("Health check: Redis unavailable (%r); reporting 503", error)
        return f"redis: unavailable ({type(error).__name__})"
    return None


async def _check_relay() -> tuple[Relay | None, str | None]:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
            relay = await ensure_relay()
    except Exception as error:
        logger.warning("Health check: the relay could not start (%r); reporting 503", error)
        return None, f"relay: could not start ({type(error).__name__})"
    stalled_seconds = asyncio.get_running_loop().time() - relay.polled_at
    if stalled_seconds > _RELAY_STALL_SECONDS:
        return relay, f"relay: has not read the event log for {stalled_seconds:.0f} s"
    return relay, None
