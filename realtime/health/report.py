"""The health report of one server process, for `/health` and for `get_server_status`."""

from __future__ import annotations

from typing import Any

from django.conf import settings

from realtime.broadcast.relay import Relay
from realtime.connection.registry import connection_registry
from realtime.exposure import OPEN_PROBLEM, is_open_to_everyone
from realtime.health.checks import Results, health_checks
from realtime.limits import Limits
from realtime.protocol.server_info import ClientLimits, ServerStatusData
from realtime.runtime import relay_if_running


async def report_health(*, host: str, port: int) -> dict[str, Any]:
    """Return the JSON-encodable report. Takes at most about two check timeouts.

    The results of the checks may be one second old, so `status`, `log_seq` and `problems` may be too. The counters are
    those of this moment.

    `status` is `healthy`, `unhealthy`, or `draining` while the process stops and accepts no new connections. `problems`
    has one line for each part that is down or cannot be written, and one if the server is open to everyone, which
    leaves it healthy. The first seven fields are those of the API
    reference's health check. Counters are reported even if parts are down. `log_seq` and `log_epoch` are null while the
    database is down. `relay_lag_ms` is the time from the last event to its delivery.

    Args:
        host: Address this process listens on.
        port: Port this process listens on; 0 for a Unix socket.
    """
    limits: Limits = settings.MAHAVISHNU_LIMITS
    results = await health_checks().results()
    relay = relay_if_running()
    return {
        "status": _status(results.problems),
        "host": host,
        "port": port,
        "connections": len(connection_registry),
        # A room that is still opening has no live subscribers yet.
        "rooms": sum(room.is_open for room in relay.rooms.values()) if relay is not None else 0,
        "max_connections": limits.max_connections,
        "message_rate_limit": limits.max_messages_per_second,
        "database": _up_or_down(is_up=results.position is not None),
        "redis": _up_or_down(is_up=results.is_redis_up),
        "relay": results.relay,
        "scheduler": results.scheduler,
        "log_seq": results.position.seq if results.position is not None else None,
        "log_epoch": results.position.epoch if results.position is not None else None,
        "relay_lag_ms": _relay_lag_ms(relay, results),
        "delivered_events": relay.coalescer.delivered_events if relay is not None else 0,
        "large_events": relay.coalescer.large_events if relay is not None else 0,
        "problems": _problems(results),
    }


async def report_status() -> ServerStatusData:
    """Return the part of the report that concerns clients, with the version of the server and its limits."""
    results = await health_checks().results()
    position = results.position
    return ServerStatusData(
        status=_status(results.problems),
        limits=ClientLimits.of(settings.MAHAVISHNU_LIMITS),
        connections=len(connection_registry),
        database=_up_or_down(is_up=position is not None),
        redis=_up_or_down(is_up=results.is_redis_up),
        relay=results.relay,
        scheduler=results.scheduler,
        relay_lag_ms=_relay_lag_ms(relay_if_running(), results),
        problems=_problems(results),
        seq=position.seq if position is not None else None,
        epoch=position.epoch if position is not None else None,
    )


def _relay_lag_ms(relay: Relay | None, results: Results) -> float | None:
    return round(relay.coalescer.lag_ms, 1) if relay is not None and results.position is not None else None


def _status(problems: list[str]) -> str:
    if connection_registry.is_draining:
        return "draining"
    return "unhealthy" if problems else "healthy"


def _problems(results: Results) -> list[str]:
    return [*results.problems, OPEN_PROBLEM] if is_open_to_everyone() else results.problems


def _up_or_down(*, is_up: bool) -> str:
    return "up" if is_up else "down"
