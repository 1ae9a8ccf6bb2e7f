"""The open WebSocket connections of this process, and how they are closed at a graceful shutdown."""

from __future__ import annotations

from typing import Protocol

from realtime.broadcast.relay import Relay
from realtime.broadcast.room import Subscriber
from realtime.limits import Limits
from realtime.queries.status import StatusQueries

_RECONNECT_INTERVAL_MS = 10
"""Time between the reconnects of two clients. It is shorter if the reconnect window is too short for all clients."""


class Connection(Subscriber, Protocol):
    """One open connection, as used by the registry and the request handlers.

    Attributes:
        id: The `connection_id` of the `session.created` event.
        relay: The relay that delivers events to it.
        statuses: The queries that answer status requests.
        limits: The bounds of the connection.
        channels: The channels it is subscribed to.
    """

    id: str
    relay: Relay
    statuses: StatusQueries
    limits: Limits
    channels: set[str]

    async def caught_up(self) -> None:
        """Wait until the client has read most of its send queue."""

    def on_server_error(self) -> None:
        """Close the connection with SERVER_ERROR: a fault of the server broke a subscription."""

    def on_server_draining(self, *, retry_after_ms: int) -> None:
        """Send `session.draining` with the delay before a reconnect, then close the connection."""


class ConnectionRegistry:
    """The open connections of this process.

    Attributes:
        is_draining: Whether this process is shutting down and accepts no new connections.
    """

    def __init__(self) -> None:
        self.is_draining = False
        self._open: set[Connection] = set()

    def __len__(self) -> int:
        return len(self._open)

    def register(self, connection: Connection, *, maximum: int) -> bool:
        """Add `connection`, and return True; return False if `maximum` connections are open already."""
        if len(self._open) >= maximum:
            return False
        self._open.add(connection)
        return True

    def unregister(self, connection: Connection) -> None:
        """Remove `connection`, if it was added."""
        self._open.discard(connection)

    def drain(self, *, window_seconds: float) -> None:
        """Close every connection, and spread the reconnects of their clients over `window_seconds`."""
        self.is_draining = True
        closing = list(self._open)
        interval_ms = min(window_seconds * 1000 / max(len(closing), 1), _RECONNECT_INTERVAL_MS)
        for number, connection in enumerate(closing, start=1):
            connection.on_server_draining(retry_after_ms=round(number * interval_ms))


connection_registry = ConnectionRegistry()
