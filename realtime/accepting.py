"""Which of the processes that listen on one socket takes a new connection: whichever is free first, if it is not full.

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
    """Let this process step aside when it is full. Alone it has nobody to step aside for.

    Called when Twisted's reactor runs and listens.
    """
    if settings.MAHAVISHNU_PROCESSES > 1:
        for port in listening_ports():
            _StepsAside(port, maximum=settings.MAHAVISHNU_LIMITS.max_connections)


class _StepsAside:
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
        if (free := self._free()) > 0:
            # Twisted accepts as many at once as there were lately; no more than there is room for.
            port.numberAccepts = min(port.numberAccepts, free)
            self._accept()
        else:
            port.stopReading()
            port.reactor.callLater(STEP_ASIDE_SECONDS, self._accept_the_rest)

    def _free(self) -> int:
        served = self._port.factory.server.connections
        if len(served) < self._maximum:
            return self._maximum - len(served)
        # Daphne forgets those that have gone once a second.
        return self._maximum - sum("disconnected" not in details for details in served.values())

    def _accept_the_rest(self) -> None:
        if self._port.connected and not self._port.disconnecting:
            self._accept()
            self._port.startReading()
