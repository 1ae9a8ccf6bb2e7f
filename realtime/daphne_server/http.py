"""HTTP for daphne, with bounds: on the body and the time of each request, on idle time, and on connections.

Daphne reads a body whole before it starts the application, and trusts headers that only a proxy should send. Twisted's
own timeout restarts with every byte, so a client that sends byte by byte could keep a connection open.
"""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus
from math import ceil
from typing import ClassVar
from urllib.parse import urlsplit, urlunsplit

from django.conf import settings
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.web import http
from zope.interface import implementer

from orchestration.log_throttle import LogThrottle
from realtime.connection.address_quota import OpenConnections, connect_rates, quota_owner
from realtime.connection.client_address import client_address, is_trusted_proxy
from realtime.daphne_server.http_output import abort_event_stream
from realtime.daphne_server.rejection import rejection
from realtime.exposure import is_forwarding_header, is_local_only
from realtime.limits import Limits

logger = logging.getLogger(__name__)
_quota_reached = LogThrottle(logger)
_rate_reached = LogThrottle(logger)
_REJECTED = "Rejected a connection from %s: too many %s; answered 429"

_MAX_LENGTH_DIGITS = 18
"""A `Content-Length` with more digits exceeds every limit, and Python converts no number of more than 4300 digits."""

_SERVER_HEADER = b"daphne-root-path"
"""Only a proxy may set this header, and daphne takes it from clients: it moves the paths that a proxy guards."""

_FORWARDED_FOR = b"x-forwarded-for"

_ASCII_HEADERS = (b"x-forwarded-", b"sec-websocket-")
"""Headers that daphne decodes as ASCII or UTF-8. With other bytes, it would answer 500."""

_LINE_BREAK_BYTES = b"\x0b\x0c\x1c\x1d\x1e\x85"
"""Daphne answers 400 if a header has one of these, which autobahn would take for line breaks. Cookies of other sites
may have them: UTF-8 writes `Å` with \\x85.
"""
_WITHOUT_LINE_BREAKS = bytes.maketrans(_LINE_BREAK_BYTES, b"?" * len(_LINE_BREAK_BYTES))


class BoundedHTTPChannel(http.HTTPChannel):
    """One HTTP connection. Each request must be complete within `open_timeout_seconds`.

    The deadline of the first request starts with the connection. The deadline of a later request starts with its first
    byte. What is rejected is answered with a status, after which input is discarded until the client closes.

    Attributes:
        open_count: HTTP connections of this process, without those that became WebSockets or were rejected.
        open_by_address: The same for each address, without those from trusted proxies.
        rejected_count: Rejected connections that the client has not closed yet: `max_http_connections` at most.
    """

    open_count: ClassVar[int] = 0
    open_by_address: ClassVar[OpenConnections] = OpenConnections()
    rejected_count: ClassVar[int] = 0

    _path: bytes
    _command: bytes = b""

    _quota_owner: str | None = None
    _deadline: asyncio.TimerHandle | None = None
    _abort_timer: asyncio.TimerHandle | None = None
    _is_counted = False
    _has_received = False
    _is_rejected = False
    _chunked_bytes = 0

    # --- The connection --------------------------------------------------------------------------------------------

    def connectionMade(self) -> None:  # noqa: N802
        self._limits: Limits = settings.MAHAVISHNU_LIMITS
        self.timeOut = self._limits.http_idle_timeout_seconds
        super().connectionMade()
        self._is_counted = True
        type(self).open_count += 1
        self._set_deadline()
        self._peer: str | None = getattr(self.transport.getPeer(), "host", None)
        self._trusts_peer = is_trusted_proxy(self._peer)
        if not self._trusts_peer:
            self._quota_owner = quota_owner(client_address(self._peer, ()))
        of_address = self.open_by_address.add(self._quota_owner)
        # Counted before any rejection: `realtime.daphne_server.accept_limits` closes what comes too fast.
        wait_seconds = self._count_connect(self._quota_owner)
        if self.open_count > self._limits.max_http_connections:
            self._reject(HTTPStatus.SERVICE_UNAVAILABLE, retry_after_seconds=1)
        elif of_address > self._limits.max_connections_per_address:
            _quota_reached.log(
                _REJECTED, self._quota_owner, "open HTTP connections (MAHAVISHNU_MAX_CONNECTIONS_PER_ADDRESS)"
            )
            self._reject(HTTPStatus.TOO_MANY_REQUESTS, retry_after_seconds=1)
        elif wait_seconds:
            self._reject_connect(self._quota_owner, wait_seconds)

    def connectionLost(self, reason: object) -> None:  # noqa: N802
        self._leave()
        super().connectionLost(reason)

    def input_ended(self) -> None:
        """Answer the request of a client that has closed its side; without one, close ours."""
        if self._handlingRequest and not self._is_rejected:
            self.persistent = False
            abort_event_stream(self.requests[0])
        else:
            self.loseConnection()

    def _leave(self) -> None:
        self._cancel_deadline()
        if self._abort_timer is not None:
            self._abort_timer.cancel()
            self._abort_timer = None
            type(self).rejected_count -= 1
        self._release_place()

    def _release_place(self) -> None:
        if self._is_counted:
            self._is_counted = False
            type(self).open_count -= 1
            self.open_by_address.remove(self._quota_owner)

    # --- Input -----------------------------------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        self._has_received = True
        if self._is_rejected:
            return
        if self._deadline is None and not self._handlingRequest:
            self._set_deadline()
        super().dataReceived(data)

    def headerReceived(self, line: bytes) -> bool:  # noqa: N802
        name, separator, value = line.partition(b":")
        name = name.lower()
        if name == _SERVER_HEADER or (name.startswith(_ASCII_HEADERS) and not value.isascii()):
            return True
        # A server without credentials refuses the request instead: see `realtime.connection.local_only`.
        if not self._trusts_peer and is_forwarding_header(name) and not is_local_only():
            return True
        if name == b"content-length" and len(value.strip()) > _MAX_LENGTH_DIGITS:
            self._reject(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return False
        return bool(super().headerReceived(name + separator + value.translate(_WITHOUT_LINE_BREAKS)))

    def allHeadersReceived(self) -> None:  # noqa: N802
        is_handshake = self._is_handshake()
        status = self._rejection(is_handshake=is_handshake)
        if status is not None:
            self._reject(status)
            return
        try:
            self._use_origin_form()
        except ValueError:
            self._reject(HTTPStatus.BAD_REQUEST)
        else:
            if self._trusts_peer:
                self._use_forwarded_address(is_handshake=is_handshake)
            if not self._is_rejected:
                super().allHeadersReceived()

    def rawDataReceived(self, data: bytes) -> None:  # noqa: N802
        if self._is_rejected:
            return
        if not self._handlingRequest and self.length is None:
            self._chunked_bytes += len(data)
            if self._chunked_bytes > self._limits.max_body_bytes:
                self._reject(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
                return
        super().rawDataReceived(data)

    def allContentReceived(self) -> None:  # noqa: N802
        if self._is_rejected:
            return
        self._cancel_deadline()
        self._chunked_bytes = 0
        super().allContentReceived()
        if self.requests and self.requests[-1].transport is None:
            # The request was upgraded to a WebSocket. Channel and request refer to each other: break the cycle.
            self.requests.clear()
            self.setTimeout(None)
            self._leave()

    def _rejection(self, *, is_handshake: bool) -> HTTPStatus | None:
        """Return the status with which the request is rejected after its headers, or None."""
        if is_handshake:
            # A handshake has no body and needs HTTP/1.1 (RFC 6455 section 4.2.1).
            return HTTPStatus.BAD_REQUEST if self.length != 0 or self._version != b"HTTP/1.1" else None
        if self.length is not None and self.length > self._limits.max_body_bytes:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        return None

    def _is_handshake(self) -> bool:
        upgrades = self.requests[-1].requestHeaders.getRawHeaders(b"Upgrade") or ()
        return any(upgrade.lower() == b"websocket" for upgrade in upgrades)

    def _use_forwarded_address(self, *, is_handshake: bool) -> None:
        """Leave only the client's own address in `X-Forwarded-For`; count a handshake that a proxy has forwarded."""
        headers = self.requests[-1].requestHeaders
        forwarded_for = [value.decode("ascii") for value in headers.getRawHeaders(_FORWARDED_FOR) or ()]
        client = client_address(self._peer, forwarded_for)
        if client.is_forwarded:
            # Daphne would take the first address, which the client may have forged.
            headers.removeHeader(_FORWARDED_FOR)
            if client.address is not None:
                headers.addRawHeader(_FORWARDED_FOR, str(client.address).encode())
        if is_handshake:
            owner = quota_owner(client)
            if wait_seconds := self._count_connect(owner):
                self._reject_connect(owner, wait_seconds)

    def _use_origin_form(self) -> None:
        """Replace an absolute request target by its path, and `Host` by its host (RFC 9112 section 3.2.2).

        Raises:
            ValueError: if the target is no URL.
        """
        if not self._path.lower().startswith((b"http://", b"https://")):
            return
        target = urlsplit(self._path)
        self.requests[-1].requestHeaders.setRawHeaders(b"Host", [target.netloc])
        self._path = urlunsplit((b"", b"", target.path or b"/", target.query, b""))

    # --- Rejections ------------------------------------------------------------------------------------------------

    def _count_connect(self, owner: str | None) -> float:
        """Count a new connection of an address; return the seconds until it may open the next one, or 0 if it may."""
        return connect_rates.take(owner, limits=self._limits, now=asyncio.get_running_loop().time())

    def _reject_connect(self, owner: str | None, wait_seconds: float) -> None:
        _rate_reached.log(_REJECTED, owner, "new connections a second (MAHAVISHNU_MAX_CONNECTS_PER_SECOND)")
        self._reject(HTTPStatus.TOO_MANY_REQUESTS, retry_after_seconds=ceil(wait_seconds))

    def _set_deadline(self) -> None:
        self._deadline = asyncio.get_running_loop().call_later(self._limits.open_timeout_seconds, self._time_out)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _time_out(self) -> None:
        self._deadline = None
        if self.isSecure() and not self._has_received:
            # The TLS handshake is not finished: an answer would wait for it.
            self.transport.abortConnection()
        else:
            self._reject(HTTPStatus.REQUEST_TIMEOUT)

    def _reject(self, status: HTTPStatus, *, retry_after_seconds: int | None = None) -> None:
        """Answer with `status` and end our side of the connection; drop it if the client does not end its side.

        Closing a socket with unread data would reset the connection, and the client would lose the answer. If too many
        rejected connections are open, it does lose it.
        """
        self._is_rejected = True
        # A client that is rejected again and again, and closes nothing, must not take the places of others.
        self._release_place()
        self._cancel_deadline()
        self.setTimeout(None)
        self.clearLineBuffer()
        is_head = self._command == b"HEAD"
        self.transport.write(
            rejection(status, limits=self._limits, is_head=is_head, retry_after_seconds=retry_after_seconds)
        )
        self._networkProducer.unregisterProducer()
        if self.isSecure():
            self.transport.loseConnection()
        else:
            self.transport.loseWriteConnection()
        if self.rejected_count >= self._limits.max_http_connections:
            self.transport.abortConnection()
            return
        type(self).rejected_count += 1
        self._abort_timer = asyncio.get_running_loop().call_later(
            self._limits.close_timeout_seconds, self.transport.abortConnection
        )


@implementer(IHalfCloseableProtocol)
class BoundedHTTPProtocol(http._GenericHTTPChannelProtocol):
    """What Twisted's `HTTPFactory.protocol` would build, with our channel inside and half-closed connections."""

    def __init__(self) -> None:
        super().__init__(BoundedHTTPChannel())

    def readConnectionLost(self) -> None:  # noqa: N802
        """Handle the end of the client's side; Twisted calls this."""
        self._channel.input_ended()

    def writeConnectionLost(self) -> None:  # noqa: N802
        """Do nothing at the end of our side: the client ends its side, or a timer does."""
