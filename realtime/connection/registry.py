"""The WebSocket connections this process has open, and how they are asked to leave when it stops."""

from __future__ import annotations

from typing import Protocol

_RECONNECT_SLOT_MS = 10
"""Clients come back at least that far apart, unless the window they share is too short for their number."""


class Connection(Protocol):
    """One open connection."""

    id: str

    def server_is_draining(self, *, retry_after_ms: int) -> None:
        """Tell the client when to come back, and close."""


class Connections:
    """The open connections, at most `maximum` of them at a time.

    Attributes:
        are_draining: Whether this process is about to stop: none is let in any more.
    """

    def __init__(self) -> None:
        self.are_draining = False
        self._open: set[Connection] = set()

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, connection: Connection, *, maximum: int) -> bool:
        """Count `connection` in; False, and it is not counted, if there are `maximum` already."""
        if len(self._open) >= maximum:
            return False
        self._open.add(connection)
        return True

    def discard(self, connection: Connection) -> None:
        """Count `connection` out, if it was in."""
        self._open.discard(connection)

    def drain(self, *, window_seconds: float) -> None:
        """Ask everyone to leave, and to come back each at a time of its own within `window_seconds`."""
        self.are_draining = True
        leaving = list(self._open)
        slot_ms = min(window_seconds * 1000 / max(len(leaving), 1), _RECONNECT_SLOT_MS)
        for number, connection in enumerate(leaving, start=1):
            connection.server_is_draining(retry_after_ms=round(number * slot_ms))


connections = Connections()
