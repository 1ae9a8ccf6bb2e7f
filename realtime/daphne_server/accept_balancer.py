"""Balance new connections between processes on one socket: the process with the fewest connections accepts first.

The kernel wakes every process for every connection, and the first process to react accepts it. On an idle machine this
is mostly the same process. In one measurement it got 44 of 60 clients, and the others got 11, 3 and 2. Each process
therefore delays its accepts, in proportion to its open connections. The processes do not communicate. A busy, stopped
or dead process delays no other.

Every process has its own `max_connections`. A full process waits longest. It accepts a connection only if no other
process has accepted it, and then answers TOO_MANY_CONNECTIONS.
"""

from __future__ import annotations

import socket
from typing import Any

from django.conf import settings

from realtime.connection.rate_limit import TokenBucket
from realtime.daphne_server.accept_limits import LimitedPort, answers_of_process
from realtime.daphne_server.shutdown import http_factory, listening_ports

DELAY_PER_CONNECTION_SECONDS = 0.00005
MAX_DELAY_SECONDS = 0.05
FULL_DELAY_SECONDS = 0.25

MIN_DELAY_SECONDS = 0.001
"""The resolution of asyncio's timers; a shorter delay is skipped."""

MIN_ACCEPTS = 4
ACCEPTS_PER_SECOND_DELAYED = 1000
"""These two limit how many connections a process accepts after a delay. Thousands that arrive at once are accepted
soon. A few that arrive at once are not all accepted by the process whose delay ends first."""


def limit_accepts() -> None:
    """Limit accepts, and balance them between processes if there are several.

    Called when Twisted's reactor runs and listens.
    """
    answers = answers_of_process()
    for port in listening_ports():
        _correct_address_family(port)
        if settings.MAHAVISHNU_PROCESSES > 1:
            _BalancedPort(port, answers, max_connections=settings.MAHAVISHNU_LIMITS.max_connections)
        else:
            LimitedPort(port, answers)


def _correct_address_family(port: Any) -> None:
    """Set the real address family. Daphne treats every `--fd` socket as IPv4, and would misread IPv6 addresses."""
    actual = socket.socket(fileno=port.socket.detach())
    port.socket, port.fileno, port.addressFamily = actual, actual.fileno, actual.family


class _BalancedPort(LimitedPort):
    """Delays the accepts of one of Twisted's listening ports."""

    def __init__(self, port: Any, answers: TokenBucket, *, max_connections: int) -> None:
        super().__init__(port, answers)
        self._server = http_factory(port).server
        self._max_connections = max_connections

    def _on_readable(self) -> None:
        delay_seconds = self._delay_seconds()
        if delay_seconds < MIN_DELAY_SECONDS:
            self._accept(1)
        else:
            self._port.stopReading()
            self._port.reactor.callLater(delay_seconds, self._accept_delayed, delay_seconds)

    def _delay_seconds(self) -> float:
        if self._is_full():
            return FULL_DELAY_SECONDS
        # Every open socket counts, even before its first request: many may be accepted at the same moment.
        sockets = len(self._port.reactor.getReaders())
        return min(sockets * DELAY_PER_CONNECTION_SECONDS, MAX_DELAY_SECONDS)

    def _is_full(self) -> bool:
        served = self._server.connections
        if len(served) < self._max_connections:
            return False
        # Daphne removes ended connections only once a second, so exclude them here.
        return sum("disconnected" not in details for details in served.values()) >= self._max_connections

    def _accept_delayed(self, delayed_seconds: float) -> None:
        if self._port.connected and not self._port.disconnecting:
            most = MIN_ACCEPTS + round(delayed_seconds * ACCEPTS_PER_SECOND_DELAYED)
            free = self._max_connections - len(self._server.connections)
            self._accept(min(most, free) if free > 0 else most)
            self._port.startReading()
