"""The WebSocket connections this process has open."""

from __future__ import annotations

from typing import Protocol


class Connection(Protocol):
    """One open connection."""

    id: str


class Connections:
    """The open connections, at most `maximum` of them at a time."""

    def __init__(self) -> None:
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


connections = Connections()
