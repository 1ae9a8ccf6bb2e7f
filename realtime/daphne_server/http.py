"""HTTP for daphne, with a deadline for each request.

Twisted's own timeout restarts with every byte, so a client that sends byte by byte could keep a connection open.
"""

from __future__ import annotations

import asyncio

from django.conf import settings
from twisted.web import http


class TimedHTTPChannel(http.HTTPChannel):
    """One HTTP connection. Each request must be complete within `open_timeout_seconds`.

    The deadline of the first request starts with the connection. The deadline of a later request starts with its first
    byte.
    """

    _deadline: asyncio.TimerHandle | None = None

    def connectionMade(self) -> None:  # noqa: N802
        super().connectionMade()
        self._set_deadline()

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        if self._deadline is None and not self._handlingRequest:
            self._set_deadline()
        super().dataReceived(data)

    def allContentReceived(self) -> None:  # noqa: N802
        self._cancel_deadline()
        super().allContentReceived()
        if self.requests and self.requests[-1].transport is None:
            # The request was upgraded to a WebSocket. Channel and request refer to each other: break the cycle.
            self.requests.clear()

    def connectionLost(self, reason: object) -> None:  # noqa: N802
        self._cancel_deadline()
        super().connectionLost(reason)

    def _set_deadline(self) -> None:
        seconds = settings.MAHAVISHNU_LIMITS.open_timeout_seconds
        self._deadline = asyncio.get_running_loop().call_later(seconds, self._time_out)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _time_out(self) -> None:
        self._deadline = None
        self.transport.write(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        self.loseConnection()


def build_channel() -> http._GenericHTTPChannelProtocol:
    """Return what Twisted's `HTTPFactory.protocol` would build, with our channel inside."""
    return http._GenericHTTPChannelProtocol(TimedHTTPChannel())
