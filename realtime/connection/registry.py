"""The WebSocket connections this process has open, and how they are asked to leave when it stops."""

from __future__ import annotations

from typing import Protocol

from realtime.broadcast.relay import Relay
from realtime.broadcast.room import Subscriber
from realtime.limits import Limits
from realtime.queries.status import StatusQueries

_RECONNECT_SLOT_MS = 10
"""Clients come back at least that far apart, unless the window they share is too short for their number."""


class Connection(Subscriber, Protocol):
    """One open connection, as the registry and the request handlers see it.

    Attributes:
        id: The `connection_id` of the welcome.
        channels: What it is subscribed to.
    """

    id: str
    relay: Relay
    statuses: StatusQueries
    limits: Limits
    channels: set[str]

    async def caught_up(self) -> None:
        """Wait until the client has read most of what was written to this connection."""

    def on_server_error(self) -> None:
        """Close: a promise to this client cannot be kept, through a fault of the server."""

    def on_server_draining(self, *, retry_after_ms: int) -> None:
        """Send the time after which to reconnect, and close."""


class ConnectionRegistry:
    """The open connections, at most `maximum` of them at a time.

    Attributes:
        is_draining: Whether this process is about to stop: none is let in any more.
    """

    def __init__(self) -> None:
        self.is_draining = False
        self._open: set[Connection] = set()

    def __len__(self) -> int:
        return len(self._open)

    def register(self, connection: Connection, *, maximum: int) -> bool:
        """Count `connection` in; False, and it is not counted, if there are `maximum` already."""
        if len(self._open) >= maximum:
            return False
        self._open.add(connection)
        return True

    def unregister(self, connection: Connection) -> None:
        """Count `connection` out, if it was in."""
        self._open.discard(connection)

    def drain(self, *, window_seconds: float) -> None:
        """Ask everyone to leave, and to come back each at a time of its own within `window_seconds`."""
        self.is_draining = True
        leaving = list(self._open)
        slot_ms = min(window_seconds * 1000 / max(len(leaving), 1), _RECONNECT_SLOT_MS)
        for number, connection in enumerate(leaving, start=1):
            connection.on_server_draining(retry_after_ms=round(number * slot_ms))


connection_registry = ConnectionRegistry()
