"""Which of the processes that listen on one socket takes a new connection: whichever is free first, if it is not full.

Each takes one at a time. (Twisted takes up to a hundred: of a thousand clients that came at once one of four processes
then had 471, and otherwise 256 to 317: `python -m benchmarks processes`.)

Every process has its own `max_connections`. One that is full leaves new connections to the others for a moment; only
when nobody else has taken them does it take them itself, to tell them that there is no room.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings

from realtime.draining import listening_ports

STEP_ASIDE_SECONDS = 0.25
"""The others are idle enough if they have taken a connection in this time; otherwise all are full, or too busy."""


def share_ports() -> None:
    """Let this process leave to others what they can take sooner. Alone it has nobody to leave it to.

    Called when Twisted's reactor runs and listens.
    """
    if settings.MAHAVISHNU_PROCESSES > 1:
        for port in listening_ports():
            _SharedPort(port, maximum=settings.MAHAVISHNU_LIMITS.max_connections)


class _SharedPort:
    """Stands between Twisted's reactor and one listening port of it.

    Args:
        maximum: How many connections this process may have, those that are still being opened included.
    """

    def __init__(self, port: Any, *, maximum: int) -> None:
        self._port = port
        self._maximum = maximum
        self._accept = port.doRead
        port.doRead = self._accept_if_not_full

    def _accept_if_not_full(self) -> None:
        port = self._port
        if self._is_full():
            port.stopReading()
            port.reactor.callLater(STEP_ASIDE_SECONDS, self._accept_after_all)
        else:
            self._accept_one()

    def _accept_one(self) -> None:
        # Twisted raises this number whenever there was so much to accept.
        self._port.numberAccepts = 1
        self._accept()

    def _is_full(self) -> bool:
        # Daphne forgets those that have gone once a second: nothing is sure until they are left out.
        served = self._port.factory.server.connections
        if len(served) < self._maximum:
            return False
        return sum("disconnected" not in details for details in served.values()) >= self._maximum

    def _accept_after_all(self) -> None:
        if self._port.connected and not self._port.disconnecting:
            self._accept_one()
            self._port.startReading()
