"""The sending side of one connection under daphne: frames built once go straight to the socket when nothing is queued.

Everything else takes the ordinary way through Twisted's transport, in the same order: TLS, a proxy protocol, and
whatever the socket does not take at once. The transport is fed in small parts: what a slow reader has yet to be sent
is then shared with all others, and can be dropped between two frames. How much the transport has not sent is private
to Twisted; this module alone looks, and `missing_features()` says at start whether there is what it looks at.
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
"""What a close frame has room for (RFC 6455 section 5.5)."""

_LOOKS_PER_BLOCKED_TIME = 8
"""How often a reader that takes nothing is looked at before it is called blocked."""

_KERNEL_BYTES = 128 * 1024
"""What the kernel may hold unsent, beside what the peer has made room for (`TCP_NOTSENT_LOWAT` in tcp(7))."""


def missing_features() -> list[str]:
    """What this module leans on and does not find in the Twisted that is installed."""
    transport = FileDescriptor(reactor=object())
    expected = {"dataBuffer": b"", "offset": 0, "_tempDataLen": 0}
    missing = [name for name, empty in expected.items() if getattr(transport, name, None) != empty]
    return [f"twisted FileDescriptor.{name}" for name in missing]


def close_reason(text: str) -> bytes:
    """The reason of a close frame, cut to what it has room for."""
    return text.encode()[:_MAX_REASON_BYTES].decode(errors="ignore").encode()


class DaphneTransport:
    """Implements `realtime.connection.writer.Wire` for one open connection, and Twisted's push producer to know when to feed it.

    Args:
        direct: Whether frames may pass the transport by.
    """

    def __init__(self, protocol: WebSocketServerProtocol, writer: ConnectionWriter, *, direct: bool) -> None:
        self._protocol = protocol
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._transport = _innermost(protocol.transport)
        # An extension such as compression changes what each client is sent.
        self._prebuilt = direct and not protocol.websocket_extensions_in_use
        self._send: Callable[[bytes], int] | None = None
        if isinstance(self._transport, SocketTransport):
            _bound_kernel_buffer(self._transport.socket)
            if self._prebuilt and self._transport is protocol.transport and not self._transport.TLS:
                self._send = self._transport.socket.send
        # What few connections ever need is made when they need it: an empty deque takes 760 bytes.
        self._waiting: deque[bytes | Frames] | None = None
        self._burst: SlowConsumerDetector | None = None
        self._waiting_bytes = 0
        self._goodbye: tuple[int, str] | None = None
        self._written_bytes = 0
        self._taken_bytes = 0
        self._taken_at = 0.0
        self._watching: asyncio.TimerHandle | None = None
        self._took_some: asyncio.Event | None = None
        protocol.unregisterProducer()
        protocol.registerProducer(self, True)

    # --- Out -----------------------------------------------------------------------------------------------------

    @property
    def queued_bytes(self) -> int:
        transport = self._transport
        unsent: int = self._waiting_bytes + len(transport.dataBuffer) - transport.offset + transport._tempDataLen
        return unsent

    @property
    def taken_bytes(self) -> int:
        return self._written_bytes - self.queued_bytes

    def write(self, frames: Frames) -> None:
        protocol, transport = self._protocol, self._transport
        if protocol.state != protocol.STATE_OPEN:
            return
        part: bytes | Frames
        if self._send is None or self._waiting is not None or transport.dataBuffer or transport._tempDataLen:
            # The bytes alone are kept where they are enough: the messages in them take as much memory once more.
            part = frames.data if self._prebuilt else frames
            if self._waiting is None and self._has_room():
                self._hand_over(part)
            else:
                self._waiting = self._waiting or deque()
                self._waiting.append(part)
                self._waiting_bytes += _size_bytes(part)
        else:
            part = frames.data
            try:
                sent = self._send(part)
            except OSError:
                # Full, or gone: the transport will find out which, and end the connection in its own way.
                sent = 0
            if sent == len(part):
                return
            transport.write(part[sent:] if sent else part)
        self._written_bytes += _size_bytes(part)
        self.watch()
        if self.queued_bytes > self._writer.limits.max_send_queue_bytes:
            self._burst = self._burst or SlowConsumerDetector(self, self._writer.limits, on_slow=self._writer.slow)
            self._burst.check()

    def _has_room(self) -> bool:
        """Whether the transport holds no more than its `bufferSize`. With more, it will tell when all of it is sent."""
        held_bytes: int = len(self._transport.dataBuffer) + self._transport._tempDataLen
        most_bytes: int = self._transport.bufferSize
        return held_bytes <= most_bytes

    def _feed(self) -> None:
        """Hand the transport what waits, until it has no room."""
        while self._waiting and self._has_room():
            part = self._waiting.popleft()
            self._waiting_bytes -= _size_bytes(part)
            self._hand_over(part)
        if not self._waiting:
            self._waiting = None
            if self._goodbye is not None:
                code, reason = self._goodbye
                self._protocol.sendCloseFrame(code=code, reasonUtf8=close_reason(reason))

    def _hand_over(self, part: bytes | Frames) -> None:
        if isinstance(part, bytes):
            self._protocol.transport.write(part)
        else:
            for message in part.messages:
                self._protocol.sendMessage(message)

    def discard_queued(self) -> None:
        self._waiting = None
        self._waiting_bytes = 0
        if self._burst is not None:
            self._burst.end()
        self._note_that_it_took_some()

    def close(self, code: int, reason: str) -> None:
        if self._goodbye is None and self._protocol.state == self._protocol.STATE_OPEN:
            self._goodbye = (code, reason)
            self._protocol.limit_closing()
            self._feed()

    def closed(self) -> None:
        """The connection is gone: nobody has to wait for it."""
        if self._watching is not None:
            self._watching.cancel()
        self.discard_queued()
        self._burst = None

    async def finished(self) -> None:
        """The transport has told `closed` before the application heard of it."""

    # --- In ------------------------------------------------------------------------------------------------------

    def pause_reading(self) -> None:
        self._protocol.pause_reading()

    def resume_reading(self) -> None:
        self._protocol.resume_reading()

    # --- Slow readers --------------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Make sure that a peer which takes nothing of what is unsent is noticed in time."""
        if self._watching is None:
            self._taken_bytes = self.taken_bytes
            self._taken_at = self._loop.time()
            self._look_again()

    def _look_again(self) -> None:
        interval_seconds = self._writer.limits.send_stall_seconds / _LOOKS_PER_BLOCKED_TIME
        self._watching = self._loop.call_later(interval_seconds, self._look)

    def _look(self) -> None:
        self._watching = None
        if not self.queued_bytes or self._protocol.state != self._protocol.STATE_OPEN:
            return
        taken_bytes, now = self.taken_bytes, self._loop.time()
        if taken_bytes > self._taken_bytes:
            self._taken_bytes, self._taken_at = taken_bytes, now
        if now - self._taken_at >= self._writer.limits.send_stall_seconds:
            self._writer.slow(f"nothing taken for {self._writer.limits.send_stall_seconds:g} s")
        else:
            self._look_again()

    async def drained(self, *, below_bytes: int) -> None:
        # The transport says nothing of less than its `bufferSize`.
        enough = max(below_bytes, self._transport.bufferSize + 1)
        while self.queued_bytes >= enough and self._protocol.state == self._protocol.STATE_OPEN:
            self._took_some = self._took_some or asyncio.Event()
            self._took_some.clear()
            await self._took_some.wait()

    def _note_that_it_took_some(self) -> None:
        if self._took_some is not None:
            self._took_some.set()

    # --- Twisted's IPushProducer -----------------------------------------------------------------------------------

    def pauseProducing(self) -> None:  # noqa: N802
        """The transport holds more than its `bufferSize`, as `_feed` wants it."""

    def resumeProducing(self) -> None:  # noqa: N802
        """The transport has sent everything."""
        self._feed()
        self._note_that_it_took_some()
        if not self._waiting:
            self._protocol.on_queue_sent()

    def stopProducing(self) -> None:  # noqa: N802
        """The connection is gone; `closed` follows."""


def _size_bytes(part: bytes | Frames) -> int:
    return len(part) if isinstance(part, bytes) else part.size_bytes


def _innermost(transport: Any) -> Any:
    """The transport that writes to the socket: beneath TLS and beneath a proxy protocol."""
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    return transport


def _bound_kernel_buffer(connection: socket.socket) -> None:
    """Let the kernel hold little that is unsent, so that a stalled reader shows early and is still told why it is cut.

    What is under way to a peer that reads is not counted, so a fast one is not slowed down.
    """
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        with suppress(OSError):  # A Unix socket has no such option.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _KERNEL_BYTES)
