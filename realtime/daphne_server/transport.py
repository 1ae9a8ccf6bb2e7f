"""The transport of one connection under daphne: prebuilt frames go straight to the socket when nothing is queued.

Other data goes through Twisted's transport, in the same order. This is data of connections with TLS or a proxy
protocol, and data that the socket does not accept at once. Twisted's transport gets it in small parts. The queue
of a slow client can then share its frames with other clients, and can be dropped between two frames.

The number of bytes that Twisted's transport has not sent yet is in private attributes. Only this module reads them, and
`missing_features()` checks at start that they exist.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from autobahn.twisted.websocket import WebSocketServerProtocol
from twisted.internet.abstract import FileDescriptor
from twisted.internet.tcp import Server as SocketTransport
from twisted.protocols.policies import ProtocolWrapper

from realtime.connection.slow_consumer import SlowConsumerDetector
from realtime.connection.writer import ConnectionWriter
from realtime.protocol.frames import Frames

_MAX_REASON_BYTES = 123
"""Maximum size of the reason in a close frame (RFC 6455 section 5.5)."""

CHECKS_PER_STALL = 8
"""How often progress is checked within `send_stall_seconds`."""

_TCP_ESTABLISHED = 1
"""The first byte of `TCP_INFO`, `tcpi_state`, for an open connection (tcp(7); Linux `tcp_states.h`)."""

_MAX_KERNEL_BYTES = 128 * 1024
"""Unsent bytes that the kernel may hold beyond the client's receive window (`TCP_NOTSENT_LOWAT` in tcp(7))."""


def missing_features() -> list[str]:
    """Return the private features of Twisted that this module needs and the installed version lacks."""
    transport = FileDescriptor(reactor=object())
    expected = {"dataBuffer": b"", "offset": 0, "_tempDataLen": 0}
    missing = [name for name, empty in expected.items() if getattr(transport, name, None) != empty]
    return [f"twisted FileDescriptor.{name}" for name in missing]


def close_reason(text: str) -> bytes:
    """Return the reason of a close frame as UTF-8, cut between two characters to at most 123 bytes."""
    return text.encode()[:_MAX_REASON_BYTES].decode(errors="ignore").encode()


class DaphneTransport:
    """Implements `realtime.connection.transport.Transport`, and Twisted's `IPushProducer` to feed Twisted's transport.

    Args:
        protocol: The open WebSocket.
        writer: The writer whose frames are sent.
        direct_frames: Whether frames may bypass daphne's send path.
    """

    def __init__(self, protocol: WebSocketServerProtocol, writer: ConnectionWriter, *, direct_frames: bool) -> None:
        self._protocol = protocol
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._transport = socket_transport(protocol.transport)
        # An extension such as compression changes the bytes of each client.
        self._send_prebuilt = direct_frames and not protocol.websocket_extensions_in_use
        self._socket_send: Callable[[bytes], int] | None = None
        if isinstance(self._transport, SocketTransport):
            limit_kernel_buffer(self._transport.socket)
            if self._send_prebuilt and self._transport is protocol.transport and not self._transport.TLS:
                self._socket_send = self._transport.socket.send
        # Few connections ever need these, so they are created on demand: an empty deque takes 760 bytes.
        self._queue: deque[bytes | Frames] | None = None
        self._slow_consumer: SlowConsumerDetector | None = None
        self._progress: asyncio.Event | None = None
        self._queue_bytes = 0
        self._close_frame: tuple[int, str] | None = None
        self._total_queued_bytes = 0
        self._last_sent_bytes = 0
        self._last_progress_at = 0.0
        self._stall_timer: asyncio.TimerHandle | None = None
        protocol.unregisterProducer()
        protocol.registerProducer(self, True)

    # --- Sending -------------------------------------------------------------------------------------------------

    @property
    def queued_bytes(self) -> int:
        return self._queue_bytes + unsent_bytes(self._transport)

    @property
    def sent_bytes(self) -> int:
        return self._total_queued_bytes - self.queued_bytes

    def write(self, frames: Frames) -> None:
        protocol, transport = self._protocol, self._transport
        if protocol.state != protocol.STATE_OPEN:
            return
        part: bytes | Frames
        if self._socket_send is None or self._queue is not None or transport.dataBuffer or transport._tempDataLen:
            # Queue only the bytes if possible: the messages in `Frames` take the same memory again.
            part = frames.data if self._send_prebuilt else frames
            if self._queue is None and self._has_room():
                self._write_part(part)
            else:
                self._queue = self._queue or deque()
                self._queue.append(part)
                self._queue_bytes += _size_bytes(part)
        else:
            part = frames.data
            try:
                sent = self._socket_send(part)
            except OSError:
                # The socket is full or closed. The transport finds out which, and closes the connection if needed.
                sent = 0
            if sent == len(part):
                return
            transport.write(part[sent:] if sent else part)
        self._total_queued_bytes += _size_bytes(part)
        self.detect_stall()
        if self.queued_bytes > self._writer.limits.max_send_queue_bytes:
            if self._slow_consumer is None:
                limits, on_slow = self._writer.limits, self._writer.mark_slow
                self._slow_consumer = SlowConsumerDetector(self, limits, on_slow=on_slow)
            self._slow_consumer.check()

    def _has_room(self) -> bool:
        """Return whether Twisted's transport holds at most `bufferSize`. If not, it calls `resumeProducing` later."""
        held_bytes: int = len(self._transport.dataBuffer) + self._transport._tempDataLen
        buffer_bytes: int = self._transport.bufferSize
        return held_bytes <= buffer_bytes

    def _feed(self) -> None:
        """Move parts from the queue to Twisted's transport while it has room.

        After the last part, send the close frame if `close` was called.
        """
        while self._queue and self._has_room():
            part = self._queue.popleft()
            self._queue_bytes -= _size_bytes(part)
            self._write_part(part)
        if not self._queue:
            self._queue = None
            if self._close_frame is not None:
                code, reason = self._close_frame
                self._protocol.sendCloseFrame(code=code, reasonUtf8=close_reason(reason))

    def _write_part(self, part: bytes | Frames) -> None:
        if isinstance(part, bytes):
            self._protocol.transport.write(part)
        else:
            for message in part.messages:
                self._protocol.sendMessage(message)

    def discard_queued(self) -> None:
        self._queue = None
        self._queue_bytes = 0
        if self._slow_consumer is not None:
            self._slow_consumer.stop()
        self._wake_waiters()

    def close(self, code: int, reason: str) -> None:
        if self._close_frame is None and self._protocol.state == self._protocol.STATE_OPEN:
            self._close_frame = (code, reason)
            self._protocol.limit_closing_time()
            self._feed()

    def on_disconnected(self) -> None:
        """Cancel all timers and wake all waiters: the connection has ended."""
        if self._stall_timer is not None:
            self._stall_timer.cancel()
        self.discard_queued()
        self._slow_consumer = None
        self._writer.mark_disconnected()

    async def stop(self) -> None:
        """Do nothing: `on_disconnected` was called before the application's disconnect."""

    # --- Receiving -----------------------------------------------------------------------------------------------

    def pause_reading(self) -> None:
        self._protocol.pause_reading()

    def resume_reading(self) -> None:
        self._protocol.resume_reading()

    def charge(self, cost: int) -> None:
        self._protocol.charge(cost)

    # --- Stalled clients -----------------------------------------------------------------------------------------

    def detect_stall(self) -> None:
        """Start the stall timer if necessary. It reports a client that reads nothing for `send_stall_seconds`."""
        if self._stall_timer is None:
            self._last_sent_bytes = self.sent_bytes
            self._last_progress_at = self._loop.time()
            self._schedule_stall_check()

    def _schedule_stall_check(self) -> None:
        interval_seconds = self._writer.limits.send_stall_seconds / CHECKS_PER_STALL
        self._stall_timer = self._loop.call_later(interval_seconds, self._check_stall)

    def _check_stall(self) -> None:
        self._stall_timer = None
        if not self.queued_bytes or self._protocol.state != self._protocol.STATE_OPEN:
            return
        sent_bytes, now = self.sent_bytes, self._loop.time()
        if sent_bytes > self._last_sent_bytes:
            self._last_sent_bytes, self._last_progress_at = sent_bytes, now
        if now - self._last_progress_at >= self._writer.limits.send_stall_seconds:
            self._writer.mark_stalled()
        else:
            self._schedule_stall_check()

    async def drained(self, *, below_bytes: int) -> None:
        # Twisted's transport reports progress only when it is empty, so less than its `bufferSize` counts as drained.
        below_bytes = max(below_bytes, self._transport.bufferSize + 1)
        while self.queued_bytes >= below_bytes and self._protocol.state == self._protocol.STATE_OPEN:
            self._progress = self._progress or asyncio.Event()
            self._progress.clear()
            await self._progress.wait()

    def _wake_waiters(self) -> None:
        if self._progress is not None:
            self._progress.set()

    # --- Twisted's IPushProducer -----------------------------------------------------------------------------------

    def pauseProducing(self) -> None:  # noqa: N802
        """Do nothing: `_feed` stops when Twisted's transport holds more than its `bufferSize`."""

    def resumeProducing(self) -> None:  # noqa: N802
        """Feed Twisted's transport, which has sent everything."""
        self._feed()
        self._wake_waiters()
        if not self._queue:
            self._protocol.on_queue_sent()

    def stopProducing(self) -> None:  # noqa: N802
        """Do nothing: the connection has ended, and `on_disconnected` follows."""


def has_peer_disconnected(transport: Any) -> bool:
    """Return whether the client has reset or closed its side of the connection, even if unread data precedes that.

    A client must send a close frame before it closes its side (RFC 6455 section 7.1.1). Without one, it has left.
    """
    if not hasattr(socket, "TCP_INFO"):
        return False
    try:
        info = socket_transport(transport).getHandle().getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    except OSError:  # A Unix socket has no such option.
        return False
    return bool(info[0] != _TCP_ESTABLISHED)


def unsent_bytes(transport: Any) -> int:
    """Return the bytes that a transport of a socket holds."""
    unsent: int = len(transport.dataBuffer) - transport.offset + transport._tempDataLen
    return unsent


def _size_bytes(part: bytes | Frames) -> int:
    return len(part) if isinstance(part, bytes) else part.size_bytes


def socket_transport(transport: Any) -> Any:
    """Return the transport that writes to the socket, beneath TLS and a proxy protocol."""
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    return transport


def limit_kernel_buffer(connection: socket.socket) -> None:
    """Limit the unsent data in the kernel: a stall is detected early, and the client still gets the reason of a close.

    Data in flight to a client that reads does not count, so the limit does not slow down a fast client.
    """
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        with suppress(OSError):  # A Unix socket has no such option.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _MAX_KERNEL_BYTES)
