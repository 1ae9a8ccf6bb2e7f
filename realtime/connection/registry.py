"""The open WebSocket connections of this process, and how they are closed at a graceful shutdown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from realtime.auth.identity import Identity
from realtime.broadcast.relay import Relay
from realtime.broadcast.room import Subscriber
from realtime.connection.address_quota import OpenConnections
from realtime.connection.replay_budget import ReplayBudget
from realtime.limits import Limits
from realtime.protocol.server_info import ServerStatusData
from realtime.queries.replay_reads import ReplayReads
from realtime.queries.status import StatusQueries

_RECONNECT_INTERVAL_MS = 10
"""Time between the reconnects of two clients. It is shorter if the reconnect window is too short for all clients."""


class Connection(Subscriber, Protocol):
    """One open connection, as used by the registry and the request handlers.

    Attributes:
        id: The `connection_id` of the `session.created` event.
        relay: The relay that delivers events to it.
        statuses: The queries that answer status requests.
        replay_reads: The queue of the reads for replays, snapshots and lists.
        replay_budget: The bytes that these reads may take.
        limits: The bounds of the connection.
        channels: The channels it is subscribed to.
        identity: Who its client is now. A new token replaces it.
    """

    id: str
    relay: Relay
    statuses: StatusQueries
    replay_reads: ReplayReads
    replay_budget: ReplayBudget
    limits: Limits
    channels: set[str]
    identity: Identity

    async def server_status(self) -> ServerStatusData:
        """Return the status of this server process."""

    async def caught_up(self) -> None:
        """Wait until the client has read most of its send queue."""

    def on_server_error(self) -> None:
        """Close the connection with SERVER_ERROR: a fault of the server broke a subscription."""

    def on_revoked(self) -> None:
        """Close the connection with AUTH_FAILED: its identity was revoked, or its login has ended."""

    def on_server_draining(self, *, retry_after_ms: int) -> None:
        """Send `session.draining` with the delay before a reconnect, then close the connection."""


class TooManyConnections(Exception):
    """Raised when a connection exceeds a limit. The message is for the client."""

    def __init__(self, *, limit: int, address: str | None = None) -> None:
        super().__init__(limit, address)
        self.limit = limit
        self.address = address

    def __str__(self) -> str:
        of_address = " of one address" if self.address is not None else ""
        return f"Connection limit{of_address} reached ({self.limit}); try again later"


class ConnectionRegistry:
    """The open connections of this process.

    Attributes:
        is_draining: Whether this process is shutting down and accepts no new connections.
    """

    def __init__(self) -> None:
        self.is_draining = False
        self._open: dict[Connection, str | None] = {}
        self._by_address = OpenConnections()

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Connection]:
        """Iterate over the connections that are open now; they may be closed meanwhile."""
        return iter(list(self._open))

    def register(self, connection: Connection, *, address: str | None) -> None:
        """Add `connection`, unless a limit is reached.

        Args:
            connection: An accepted connection.
            address: The address that it is charged to, if any.

        Raises:
            TooManyConnections: if this process, or the address, has as many connections as allowed.
        """
        limits = connection.limits
        if len(self._open) >= limits.max_connections:
            raise TooManyConnections(limit=limits.max_connections)
        if self._by_address.add(address) > limits.max_connections_per_address:
            self._by_address.remove(address)
            raise TooManyConnections(limit=limits.max_connections_per_address, address=address)
        self._open[connection] = address

    def unregister(self, connection: Connection) -> None:
        """Remove `connection`, if it was added."""
        if connection in self._open:
            self._by_address.remove(self._open.pop(connection))

    def drain(self, *, window_seconds: float) -> None:
        """Close every connection, and spread the reconnects of their clients over `window_seconds`."""
        self.is_draining = True
        closing = list(self._open)
        interval_ms = min(window_seconds * 1000 / max(len(closing), 1), _RECONNECT_INTERVAL_MS)
        for number, connection in enumerate(closing, start=1):
            connection.on_server_draining(retry_after_ms=round(number * interval_ms))


connection_registry = ConnectionRegistry()
