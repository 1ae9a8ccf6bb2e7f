"""The HTTP side of daphne with a deadline: a client that trickles its request in byte by byte holds nothing for ever.

Twisted's own timeout begins again with every byte.
"""

from __future__ import annotations

import asyncio

from django.conf import settings
from twisted.web import http


class Channel(http.HTTPChannel):
    """One HTTP connection. From the first byte of a request, or from the beginning, its end has to come in time."""

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
            # It became a WebSocket. Channel and request, which hold each other, are free at once if they let go.
            self.requests.clear()

    def connectionLost(self, reason: object) -> None:  # noqa: N802
        self._cancel_deadline()
        super().connectionLost(reason)

    def _set_deadline(self) -> None:
        seconds = settings.MAHAVISHNU_LIMITS.open_timeout_seconds
        self._deadline = asyncio.get_running_loop().call_later(seconds, self._too_slow)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        self.transport.write(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        self.loseConnection()


def build_channel() -> http._GenericHTTPChannelProtocol:
    """Build what Twisted's own `HTTPFactory.protocol` builds, with our channel."""
    return http._GenericHTTPChannelProtocol(Channel())
