"""Whether the server and the parts behind it work, for `GET /health`."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from django.conf import settings
from redis.asyncio import Redis

from realtime.broadcast.relay import Relay
from realtime.connection.registry import connection_registry
from realtime.database import in_database_thread
from realtime.eventlog.position import Position, current_position
from realtime.limits import Limits
from realtime.runtime import relay_if_running, running_relay

logger = logging.getLogger(__name__)

CHECK_TIMEOUT_SECONDS = 2.0
"""How long a part may take to answer before it is called down."""

_RELAY_IS_LATE_AFTER_SECONDS = 5.0


async def check_health(*, host: str, port: int) -> dict[str, Any]:
    """The report on this process, which listens on `host` and `port`.

    `status` is `healthy`, or `unhealthy` with a sentence in `problems` for each part that is down, or `draining` once
    this process was told to stop and takes no new connections. The first seven fields are those of the API's own
    health check. What is counted is counted whatever is down. `log_seq` and `log_epoch` are null while the database is
    down; `relay_lag_ms` is how long after it happened the last event was handed to its subscribers.
    """
    limits: Limits = settings.MAHAVISHNU_LIMITS
    (position, database_problem), redis_problem = await asyncio.gather(_check_database(), _check_redis())
    relay, relay_problem = await _check_relay() if database_problem is None else (None, None)
    counted = relay_if_running()
    problems = [problem for problem in (database_problem, redis_problem, relay_problem) if problem is not None]
    return {
        "status": _status(problems),
        "host": host,
        "port": port,
        "connections": len(connection_registry),
        # Whoever waits for a room to open may still miss what happens: it is not subscribed yet.
        "rooms": sum(room.is_open for room in counted.rooms.values()) if counted is not None else 0,
        "max_connections": limits.max_connections,
        "message_rate_limit": limits.max_messages_per_second,
        "database": "up" if database_problem is None else "down",
        "redis": "up" if redis_problem is None else "down",
        "relay": "up" if relay is not None and relay_problem is None else "down",
        "log_seq": position.seq if position is not None else None,
        "log_epoch": position.epoch if position is not None else None,
        "relay_lag_ms": round(relay.coalescer.lag_ms, 1) if relay is not None else None,
        "delivered_events": counted.coalescer.delivered_events if counted is not None else 0,
        "large_events": counted.coalescer.large_events if counted is not None else 0,
        "problems": problems,
    }


def _status(problems: list[str]) -> str:
    if connection_registry.is_draining:
        return "draining"
    return "unhealthy" if problems else "healthy"


async def _check_database() -> tuple[Position | None, str | None]:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
            return await in_database_thread(current_position), None
    except Exception as error:
        # Each driver has its own errors; the answer goes to anyone, so it names only the kind.
        logger.warning("Health: the database does not answer (%r)", error)
        return None, f"database: does not answer ({type(error).__name__})"


async def _check_redis() -> str | None:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
            for url in settings.MAHAVISHNU_REDIS_URLS:
                async with Redis.from_url(url) as client:
                    await client.ping()
    except Exception as error:
        # The same as for the database.
        logger.warning("Health: Redis does not answer (%r)", error)
        return f"redis: does not answer ({type(error).__name__})"
    return None


async def _check_relay() -> tuple[Relay | None, str | None]:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
            relay = await running_relay()
    except Exception as error:
        # The same as for the database.
        logger.warning("Health: the relay does not start (%r)", error)
        return None, f"relay: does not start ({type(error).__name__})"
    late_seconds = asyncio.get_running_loop().time() - relay.polled_at
    if late_seconds > _RELAY_IS_LATE_AFTER_SECONDS:
        return relay, f"relay: has not read the log for {late_seconds:.0f} s"
    return relay, None
