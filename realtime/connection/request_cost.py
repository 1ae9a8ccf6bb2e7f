"""What requests cost, in messages: the ceiling for all clients together counts this."""

from __future__ import annotations

from realtime.protocol.requests import Request, Subscribe

_FURTHER_COST_OF_REQUEST = 1
"""What a request costs more than a ping, in pings. It has a task, and often a part of a query that many share: 210 us
of processor time, on a machine where a ping took 110 us."""

_FURTHER_COST_OF_JOINING = 2
"""The same for a plain `subscribe`: it often joins a group in Redis, and leaves it at the end of the connection."""

_FURTHER_COST_OF_READING = 4
"""The same for a `subscribe` that reads the log or a snapshot: it has its own queries in a thread."""


def further_cost(request: Request) -> int:
    """Return what a request costs more than a ping."""
    if isinstance(request, Subscribe):
        is_plain = request.since is None and not request.snapshot
        return _FURTHER_COST_OF_JOINING if is_plain else _FURTHER_COST_OF_READING
    return _FURTHER_COST_OF_REQUEST
