"""What clients keep open in this process, and how it is closed at a graceful shutdown.

These are WebSockets, and responses of the HTTP API with server-sent events.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Protocol

from orchestration.log_throttle import LogThrottle
from realtime.auth.identity import Identity
from realtime.broadcast.relay import Relay
from realtime.broadcast.room import Subscriber
from realtime.connection.address_quota import OpenConnections
from realtime.connection.replay_budget import ReplayBudget
from realtime.connection.stream_subscriptions import StreamSubscriptions
from realtime.limits import Limits
from realtime.protocol.errors import RequestError
from realtime.protocol.server_info import ServerStatusData
from realtime.queries.replay_reads import ReplayReads
from realtime.queries.status import StatusQueries

_RECONNECT_INTERVAL_MS = 10
"""Time between the reconnects of two clients. It is shorter if the reconnect window is too short for all clients."""


class Reader(Protocol):
    """A client that reads: a connection, or the client of one request to the HTTP API.

    Attributes:
        statuses: The queries that answer status requests.
        replay_reads: The queue of the reads for replays, snapshots and lists.
        replay_budget: The bytes that these reads may take.
    """

    statuses: StatusQueries
    replay_reads: ReplayReads
    replay_budget: ReplayBudget


class Registered(Protocol):
    """What a client keeps open: a connection, or a response with server-sent events.

    Attributes:
        limits: The bounds of the connection.
        identity: Who its client is now.
    """

    limits: Limits
    identity: Identity

    def on_revoked(self) -> None:
        """End it: its identity was revoked, or its login has ended."""

    def on_server_draining(self, *, retry_after_ms: int) -> None:
        """Send the client the time to wait before it reconnects, then end it."""


class Connection(Registered, Reader, Subscriber, Protocol):
    """One open connection, as used by the registry and the request handlers.

    Attributes:
        id: The `connection_id` of the `session.created` event.
        relay: The relay that delivers events to it.
        limits: The bounds of the connection.
        channels: The channels it is subscribed to.
        streams: The streams of chunks that it reads.
        identity: Who its client is now. A new token replaces it.
    """

    id: str
    relay: Relay
    limits: Limits
    channels: set[str]
    streams: StreamSubscriptions
    identity: Identity

    async def server_status(self) -> ServerStatusData:
        """Return the status of this server process."""

    async def caught_up(self) -> None:
        """Wait until the client has read most of its send queue."""

    def on_server_error(self) -> None:
        """Close the connection with SERVER_ERROR: a fault of the server broke a subscription."""

    async def authenticate(self, token: str) -> Identity:
        """Take the identity of a token, once, if the connection was open without one.

        Raises:
            RequestError: with `AUTH_FAILED` or `INVALID_MESSAGE`.
        """

    async def refresh(self, token: str) -> Identity:
        """Take the identity of a newer token of the same user.

        Raises:
            RequestError: with `AUTH_FAILED` or `INVALID_MESSAGE`.
        """

    def watch_expiry(self) -> None:
        """Announce and enforce the expiry of the identity from now on: the client was answered."""

    def close_unauthenticated(self, error: RequestError) -> None:
        """Send an error about credentials, then close the connection."""

    def on_expired(self) -> None:
        """Close the connection with AUTH_FAILED: its credentials have expired."""

    def on_revoked(self) -> None:
        """Close the connection with AUTH_FAILED: its identity was revoked, or its login has ended."""

    def on_too_many_forbidden(self) -> None:
        """Close the connection with FORBIDDEN: its client guesses what it may read."""

    def on_server_draining(self, *, retry_after_ms: int) -> None:
        """Send `session.draining` with the delay before a reconnect, then close the connection."""


_WITHOUT_TOKEN = " for connections that have yet to present a token"


logger = logging.getLogger(__name__)
_quota_reached = LogThrottle(logger)


class TooManyConnections(Exception):
    """Raised when a connection exceeds a limit. The message is for the client."""

    def __init__(self, *, limit: int, address: str | None = None, kind: str = "") -> None:
        super().__init__(limit, address, kind)
        self.limit = limit
        self.address = address
        self.kind = kind

    def __str__(self) -> str:
        of_address = " of one address" if self.address is not None else ""
        return f"Connection limit{of_address}{self.kind} reached ({self.limit}); try again later"


def _quota_error(connection: Registered, *, limit: int, address: str | None, kind: str = "") -> TooManyConnections:
    """Log that an address has reached its limit, and return the error."""
    line = "Closing %s: %s has %d connections (MAHAVISHNU_MAX_CONNECTIONS_PER_ADDRESS)"
    if kind:
        line = "Closing %s: %s has %d connections without a token (MAHAVISHNU_MAX_UNAUTHENTICATED_PER_ADDRESS)"
    _quota_reached.log(line, connection, address, limit)
    return TooManyConnections(limit=limit, address=address, kind=kind)


class ConnectionRegistry:
    """The open connections of this process.

    Attributes:
        is_draining: Whether this process is shutting down and accepts no new connections.
    """

    def __init__(self) -> None:
        self.is_draining = False
        self._open: dict[Registered, str | None] = {}
        self._by_address = OpenConnections()
        self._unauthenticated: dict[Registered, str | None] = {}
        self._unauthenticated_by_address = OpenConnections()

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Registered]:
        """Iterate over the connections that are open now; they may be closed meanwhile."""
        return iter(list(self._open))

    def check_room(self, connection: Registered, *, address: str | None) -> None:
        """Check that `register` would add `connection`.

        Raises:
            TooManyConnections: if this process, or the address, has as many connections as allowed.
        """
        limits = connection.limits
        if len(self._open) >= limits.max_connections:
            raise TooManyConnections(limit=limits.max_connections)
        if address is not None and self._by_address.count(address) >= limits.max_connections_per_address:
            raise _quota_error(connection, limit=limits.max_connections_per_address, address=address)

    def register(self, connection: Registered, *, address: str | None) -> None:
        """Add `connection`, unless a limit is reached.

        Args:
            connection: An accepted connection.
            address: The address that it is charged to, if any.

        Raises:
            TooManyConnections: if this process, or the address, has as many connections as allowed.
        """
        self._remove_unauthenticated(connection)
        self.check_room(connection, address=address)
        self._by_address.add(address)
        self._open[connection] = address

    def register_unauthenticated(self, connection: Connection, *, address: str | None) -> None:
        """Add a connection that has yet to present a token. It is counted apart, until `register` or `unregister`.

        Raises:
            TooManyConnections: if this process, or the address, has as many of these as allowed.
        """
        limits = connection.limits
        if len(self._unauthenticated) >= limits.max_unauthenticated:
            raise TooManyConnections(limit=limits.max_unauthenticated, kind=_WITHOUT_TOKEN)
        if self._unauthenticated_by_address.add(address) > limits.max_unauthenticated_per_address:
            self._unauthenticated_by_address.remove(address)
            raise _quota_error(
                connection, limit=limits.max_unauthenticated_per_address, address=address, kind=_WITHOUT_TOKEN
            )
        self._unauthenticated[connection] = address

    def _remove_unauthenticated(self, connection: Registered) -> None:
        if connection in self._unauthenticated:
            self._unauthenticated_by_address.remove(self._unauthenticated.pop(connection))

    def unregister(self, connection: Registered) -> None:
        """Remove `connection`, if it was added."""
        self._remove_unauthenticated(connection)
        if connection in self._open:
            self._by_address.remove(self._open.pop(connection))

    def drain(self, *, window_seconds: float) -> None:
        """Close every connection, and spread the reconnects of their clients over `window_seconds`."""
        self.is_draining = True
        closing = [*self._open, *self._unauthenticated]
        interval_ms = min(window_seconds * 1000 / max(len(closing), 1), _RECONNECT_INTERVAL_MS)
        for number, connection in enumerate(closing, start=1):
            connection.on_server_draining(retry_after_ms=round(number * interval_ms))


connection_registry = ConnectionRegistry()
