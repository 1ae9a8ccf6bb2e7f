"""What a server says about itself: in `session.created`, and in the response to `get_server_status`."""

from __future__ import annotations

from typing import Final, Self

import msgspec

SERVER_VERSION: Final = "1.0.0"
"""The version of this server: that of `pyproject.toml`, which a test compares."""

PROTOCOL_VERSION: Final = 1
"""Changes if a client that ignores unknown fields and events no longer works."""

PING_AFTER_MS: Final = 10_000
"""How long a client receives nothing before it should send a ping, to detect a connection that is broken."""


class ClientLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits that a client needs to know; `realtime.limits.Limits` describes them."""

    max_message_bytes: int
    max_subscriptions: int
    max_messages_per_second: float
    max_message_burst: int
    max_replay_events: int
    max_event_data_bytes: int

    @classmethod
    def of(cls, limits: object) -> Self:
        """Return those of the limits of a server."""
        return msgspec.convert(limits, cls, from_attributes=True)


class ServerStatusData(msgspec.Struct, frozen=True, kw_only=True):
    """The response to `get_server_status`: what `/health` reports, for clients.

    Attributes:
        status: `healthy`, `unhealthy` or `draining`.
        server_version: The version of the server.
        protocol_version: The version of the protocol.
        ping_after_ms: How long a client receives nothing before it should send a ping.
        limits: The limits of the server.
        connections: Open WebSocket connections of this process.
        database: `up` or `down`.
        redis: `up` or `down`.
        relay: `up` or `down`.
        scheduler: `up`, `down` or `off`; null while the database is down.
        relay_lag_ms: Time from the last event to its delivery; null while the database is down.
        problems: A sentence for each part that is down or cannot be written.
        seq: Position of the event log; null while the database is down.
        epoch: The log that `seq` belongs to; null while the database is down.
    """

    status: str
    server_version: str = SERVER_VERSION
    protocol_version: int = PROTOCOL_VERSION
    ping_after_ms: int = PING_AFTER_MS
    limits: ClientLimits
    connections: int
    database: str
    redis: str
    relay: str
    scheduler: str | None
    relay_lag_ms: float | None
    problems: list[str]
    seq: int | None
    epoch: str | None
