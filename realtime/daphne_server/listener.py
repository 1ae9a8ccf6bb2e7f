"""Which of the processes that listen on one socket takes a new connection: whichever has the fewest.

All of them are woken for every connection, and whichever is first takes it: on an idle machine always the same one (it
was measured to get 44 of 60 clients, and the others 11, 3 and 2). So each waits a little before it looks again, the
longer the more connections it has. Nobody has to know about the others, and one that is busy, stopped or dead holds up
nobody.

Every process has its own `max_connections`. One that is full waits longer than any other; only when nobody else has
taken a connection does it take it itself, to tell the client that there is no room.
"""

from __future__ import annotations

import socket
from typing import Any

from django.conf import settings

from realtime.daphne_server.shutdown import listening_ports

WAIT_PER_CONNECTION_SECONDS = 0.00005
MAX_WAIT_SECONDS = 0.05
WAIT_WHEN_FULL_SECONDS = 0.25

MIN_WAIT_SECONDS = 0.001
"""Asyncio's timers are no finer."""

MIN_AT_ONCE = 4
MORE_PER_SECOND_WAITED = 1000
"""How many connections are taken after a wait, at most: thousands that come at once are soon taken, and few
that come at once are not all taken by one process whose wait happens to be over."""


def balance_accepts() -> None:
    """Let this process leave to others what they should take. Alone it has nobody to leave it to.

    Called when Twisted's reactor runs and listens.
    """
    for port in listening_ports():
        _know_family(port)
        if settings.MAHAVISHNU_PROCESSES > 1:
            _BalancedPort(port, max_connections=settings.MAHAVISHNU_LIMITS.max_connections)


def _know_family(port: Any) -> None:
    """Daphne takes every socket it is handed (`--fd`) for an IPv4 one, and would read IPv6 addresses as garbage."""
    actual = socket.socket(fileno=port.socket.detach())
    port.socket, port.fileno, port.addressFamily = actual, actual.fileno, actual.family


def _http_factory(port: Any) -> Any:
    """Daphne's factory, which an endpoint with TLS has wrapped."""
    factory = port.factory
    while hasattr(factory, "wrappedFactory"):
        factory = factory.wrappedFactory
    return factory


class _BalancedPort:
    """Stands between Twisted's reactor and one listening port of it."""

    def __init__(self, port: Any, *, max_connections: int) -> None:
        self._port = port
        self._server = _http_factory(port).server
        self._max_connections = max_connections
        self._accept = port.doRead
        port.doRead = self._wait_and_accept

    def _wait_and_accept(self) -> None:
        wait_seconds = self._wait_seconds()
        if wait_seconds < MIN_WAIT_SECONDS:
            self._accept_at_most(1)
        else:
            self._port.stopReading()
            self._port.reactor.callLater(wait_seconds, self._accept_after_all, wait_seconds)

    def _wait_seconds(self) -> float:
        if self._is_full():
            return WAIT_WHEN_FULL_SECONDS
        # Every open socket counts, even before its first request has come: many may be taken in one moment.
        sockets = len(self._port.reactor.getReaders())
        return min(sockets * WAIT_PER_CONNECTION_SECONDS, MAX_WAIT_SECONDS)

    def _is_full(self) -> bool:
        served = self._server.connections
        if len(served) < self._max_connections:
            return False
        # Daphne forgets those that have gone once a second: nothing is sure until they are left out.
        return sum("disconnected" not in details for details in served.values()) >= self._max_connections

    def _accept_after_all(self, waited_seconds: float) -> None:
        if self._port.connected and not self._port.disconnecting:
            most = MIN_AT_ONCE + round(waited_seconds * MORE_PER_SECOND_WAITED)
            room = self._max_connections - len(self._server.connections)
            self._accept_at_most(min(most, room) if room > 0 else most)
            self._port.startReading()

    def _accept_at_most(self, number: int) -> None:
        # Twisted changes this number by what it found: up to a hundred, of which the others would get none.
        self._port.numberAccepts = number
        self._accept()
