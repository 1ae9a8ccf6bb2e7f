"""The states of a client."""

from __future__ import annotations

from enum import StrEnum


class ConnectionState(StrEnum):
    """The state of a client.

    Attributes:
        CONNECTING: There was no connection yet, or the events that were missed are on their way.
        LIVE: Every event is delivered as it happens.
        STALE: The server does not answer. What is known may be old.
        OFFLINE: There is no connection.
        DRAINING: The server restarts, and has given the client a time to return.
        CLOSED: The client was closed, or has failed.
    """

    CONNECTING = "connecting"
    LIVE = "live"
    STALE = "stale"
    OFFLINE = "offline"
    DRAINING = "draining"
    CLOSED = "closed"
