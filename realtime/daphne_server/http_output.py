"""The sending side of a streamed HTTP response: paused while the client does not read, dropped if it reads nothing.

Twisted pauses a producer when more than 64 KiB are unsent, and resumes it when all is sent. It closes no connection
whose client reads nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from django.conf import settings
from twisted.internet.interfaces import IPushProducer
from twisted.internet.tcp import Server as SocketTransport
from zope.interface import implementer

from realtime.connection.client_address import peer_address
from realtime.connection.http_output import EVENT_STREAM
from realtime.daphne_server.transport import CHECKS_PER_STALL, limit_kernel_buffer, socket_transport, unsent_bytes
from realtime.limits import Limits

logger = logging.getLogger(__name__)


@implementer(IPushProducer)
class DaphneOutput:
    """Implements `realtime.connection.http_output.Output`, and Twisted's `IPushProducer`.

    Args:
        request: Daphne's request, which is being answered.
    """

    def __init__(self, request: Any) -> None:
        self.is_paused = False
        self.on_resumed: Callable[[], None] = _ignore
        self._request = request
        self._limits: Limits = settings.MAHAVISHNU_LIMITS
        self._timer: asyncio.TimerHandle | None = None
        if request.channel is not None:
            self._transport = socket_transport(request.channel.transport)
            if isinstance(self._transport, SocketTransport):
                limit_kernel_buffer(self._transport.socket)
            request.registerProducer(self, True)

    def abort(self) -> None:
        """Drop the connection with what is unsent."""
        if self._request.channel is not None:
            self._request.channel.transport.abortConnection()

    def close(self) -> None:
        """Watch the client no longer: the response ends."""
        self.on_resumed = _ignore
        self._stop_timer()
        if self._request.channel is not None and self._request.producer is self:
            self._request.unregisterProducer()

    # --- Twisted's IPushProducer -----------------------------------------------------------------------------------

    def pauseProducing(self) -> None:  # noqa: N802
        """Pause, and drop a client that reads nothing for `send_stall_seconds`."""
        self.is_paused = True
        if self._timer is None:
            self._unsent_bytes = unsent_bytes(self._transport)
            self._unread_checks = 0
            self._watch()

    def resumeProducing(self) -> None:  # noqa: N802
        """Resume: everything is sent."""
        self.is_paused = False
        self._stop_timer()
        self.on_resumed()

    def stopProducing(self) -> None:  # noqa: N802
        """Stop: the connection has ended, and the disconnect of the application follows."""
        self._stop_timer()

    def _watch(self) -> None:
        interval_seconds = self._limits.send_stall_seconds / CHECKS_PER_STALL
        self._timer = asyncio.get_running_loop().call_later(interval_seconds, self._check)

    def _check(self) -> None:
        unsent = unsent_bytes(self._transport)
        self._unread_checks = self._unread_checks + 1 if unsent >= self._unsent_bytes else 0
        self._unsent_bytes = unsent
        if self._unread_checks < CHECKS_PER_STALL:
            self._watch()
            return
        self._timer = None
        peer = peer_address(self._request.client_addr)
        logger.warning("Dropping %s: nothing read for %g s", peer, self._limits.send_stall_seconds)
        self.abort()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def abort_event_stream(request: Any) -> None:
    """Drop the connection of a client that has closed its side, if the answer is server-sent events.

    They have no end that such a client could wait for. Only a second heartbeat would find it disconnected.
    """
    if request.responseHeaders.getRawHeaders(b"content-type") == [EVENT_STREAM.encode()]:
        request.channel.transport.abortConnection()


def _ignore() -> None:
    """Ignore that the client has read: nothing waits for it."""
