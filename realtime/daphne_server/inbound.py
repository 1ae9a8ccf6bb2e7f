"""The receiving side of a WebSocket under daphne: frame rate, receive queue, paused reading, and pings.

Reading pauses when a client sends too much or too fast, or when all clients together do (see `reading_turns`). Unread
data then stays in the operating system's buffers, and TCP throttles the client.
"""

from __future__ import annotations

import asyncio
import time
from typing import ClassVar

from daphne.ws_protocol import WebSocketProtocol

from realtime.connection.rate_limit import RateLimit, Verdict
from realtime.daphne_server.reading_turns import ReadingTurns
from realtime.daphne_server.transport import DaphneTransport, has_peer_disconnected
from realtime.event_loop import PerLoop
from realtime.limits import Limits

_READ_BYTES = 16 * 1024
"""How much is read at once. One read may hold many small frames, and all are parsed before reading can pause."""

_MAX_PONG_BYTES = _READ_BYTES
"""If more than this is queued for the client, only its last ping is answered (RFC 6455 section 5.5.3)."""

_MAX_BYTES_AFTER_CLOSE = _READ_BYTES
"""How much is parsed after our close frame, in search of the client's. Small frames cost 2 s of CPU a MiB."""

_FRAME_RATE_PAUSE_SECONDS = 0.25
"""How long reading pauses after frames came too fast."""

_RECEIVE_QUEUE_POLL_SECONDS = 0.01
"""How often a full receive queue is checked until the application has emptied it."""

_FIRST_CONTROL_OPCODE = 8
"""The lowest opcode of a control frame (RFC 6455 section 5.2)."""


class InboundProtocol(WebSocketProtocol):
    """The receiving half of `MahavishnuProtocol`. Autobahn calls its camelCase methods by name.

    Attributes:
        limits: The bounds of every connection.
        writer_transport: The transport attached to the connection's writer; None if there is none.
        reading_turns: The ceiling for all clients of one event loop.
    """

    limits: Limits
    reading_turns: ClassVar[PerLoop[ReadingTurns]] = PerLoop()

    def connectionMade(self) -> None:  # noqa: N802
        self.loop = asyncio.get_running_loop()
        self.writer_transport: DaphneTransport | None = None
        self._turns = self.reading_turns.get(lambda: ReadingTurns(self.limits))
        self.virtual_time = 0.0
        self.is_waiting_for_turn = False
        self._pause_count = 0
        self._receive_queue_bytes = 0
        self._receive_queue_is_full = False
        self._frame_rate: RateLimit | None = None
        self._unanswered_ping: bytes | None = None
        # When the last message was received or the last ping sent.
        self._active_at = time.monotonic()
        self._ignores_input = False
        self._bytes_after_close = 0
        self.transport.bufferSize = _READ_BYTES
        super().connectionMade()

    # --- Frames ----------------------------------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        # After a failure, input is read but not parsed (RFC 6455 section 7.1.7). Closing a socket with unread data
        # would reset the connection, and the client would lose the final message.
        if self.state == self.STATE_CLOSING:
            self._bytes_after_close += len(data)
            if self._bytes_after_close > _MAX_BYTES_AFTER_CLOSE:
                self.ignore_input()
        if not self._ignores_input:
            super().dataReceived(data)

    def consumeData(self) -> None:  # noqa: N802
        if self.state not in (self.STATE_OPEN, self.STATE_CLOSING):
            super().consumeData()
            return
        while not self.is_reading_paused() and not self._ignores_input and self.processData():
            if self.state == self.STATE_CLOSED:
                break
        if self._ignores_input:
            self.data = b""

    def ignore_input(self) -> None:
        """Ignore all further input, and close our side of the TCP connection.

        The client receives the close frame and the end of the stream. If it does not close its side then, the close
        timeout drops the connection.
        """
        if not self._ignores_input:
            self.failedByMe = True
            self._ignores_input = True
            self.unregisterProducer()
            self.transport.loseWriteConnection()

    def onFrameBegin(self) -> None:  # noqa: N802
        frame = self.current_frame
        if frame.opcode == 0 or frame.opcode >= _FIRST_CONTROL_OPCODE or not frame.fin:
            self._limit_frame_rate()
        super().onFrameBegin()

    def onFrameEnd(self) -> bool | None:  # noqa: N802
        may_continue: bool | None = super().onFrameEnd()
        self._turns.take(self)
        return may_continue

    def charge(self, cost: int) -> None:
        """Count work for this client as so many more messages."""
        self._turns.charge(self, cost)

    def _limit_frame_rate(self) -> None:
        """Apply the message rate to fragments and control frames; pause reading when it is exceeded."""
        now = self.loop.time()
        if self._frame_rate is None:
            self._frame_rate = RateLimit(self.limits, now=now)
        if self._frame_rate.take(now=now) is not Verdict.ALLOWED:
            self.pause_reading()
            self.loop.call_later(_FRAME_RATE_PAUSE_SECONDS, self.resume_reading)

    # --- The receive queue -----------------------------------------------------------------------------------------

    def onMessage(self, payload: bytes, isBinary: bool) -> None:  # noqa: N802, N803
        if self.state != self.STATE_OPEN:
            return
        if self.application_queue.empty():
            self._receive_queue_bytes = 0
        self._receive_queue_bytes += len(payload)
        super().onMessage(payload, isBinary)
        self._active_at = time.monotonic()
        if not self._receive_queue_is_full and (
            self.application_queue.qsize() >= self.limits.max_receive_queue_messages
            or self._receive_queue_bytes >= self.limits.max_receive_queue_bytes
        ):
            self._receive_queue_is_full = True
            self.pause_reading()
            # The application usually empties the queue in the next iteration of the event loop.
            self.loop.call_soon(self._check_receive_queue)

    def _check_receive_queue(self) -> None:
        if self.application_queue.empty() or self.state == self.STATE_CLOSED:
            self._receive_queue_is_full = False
            self.resume_reading()
        elif not self._drop_if_disconnected():
            self.loop.call_later(_RECEIVE_QUEUE_POLL_SECONDS, self._check_receive_queue)

    # --- Pausing ---------------------------------------------------------------------------------------------------

    def pause_reading(self) -> None:
        """Stop reading. Reading resumes after an equal number of calls of `resume_reading`."""
        self._pause_count += 1
        if self.is_reading_paused():
            self.transport.pauseProducing()

    def resume_reading(self) -> None:
        """Undo one `pause_reading`."""
        self._pause_count -= 1
        if not self._pause_count:
            self._continue_reading()

    def is_reading_paused(self) -> bool:
        """Return whether reading is paused. After our close frame it is not: the client's close frame must be read."""
        return self._pause_count > 0 and self.state == self.STATE_OPEN

    def has_ended(self) -> bool:
        """Return whether the connection is closed."""
        return bool(self.state == self.STATE_CLOSED)

    def read_close_frame(self) -> None:
        """Read the client's close frame, even if reading was paused."""
        if self._pause_count:
            self.loop.call_soon(self._continue_reading)

    def _continue_reading(self) -> None:
        if self._drop_if_disconnected():
            return
        if self.state != self.STATE_CLOSED:
            self.consumeData()
        if self.state != self.STATE_CLOSED and not self.is_reading_paused():
            self.transport.resumeProducing()

    def _drop_if_disconnected(self) -> bool:
        """Drop the connection of a client that has disconnected, and return whether it was.

        While reading is paused, nothing else notices the end. Unread frames would keep the connection until all are
        read, at the pace of the rate limit.
        """
        has_disconnected = self.state == self.STATE_OPEN and has_peer_disconnected(self.transport)
        if has_disconnected:
            self.transport.abortConnection()
        return has_disconnected

    # --- Pings -----------------------------------------------------------------------------------------------------

    def onPing(self, payload: bytes) -> None:  # noqa: N802
        if self.writer_transport is not None and self.writer_transport.queued_bytes > _MAX_PONG_BYTES:
            self._unanswered_ping = payload
            self.writer_transport.detect_stall()
        else:
            self.sendPong(payload)

    def on_queue_sent(self) -> None:
        """Answer the last ping that arrived while the client did not read."""
        if self._unanswered_ping is not None:
            self.sendPong(self._unanswered_ping)
            self._unanswered_ping = None

    def check_timeouts(self) -> None:
        """Ping an idle client. Daphne's own version also closes active connections, after `--websocket_timeout`.

        Its `last_ping` is on the wall clock: after a step back it would ping no client for as long.
        """
        if (
            self.state == self.STATE_OPEN
            and not self._may_delay_pong()
            and self.autoPingPending is None
            and time.monotonic() - self._active_at > self.server.ping_interval
        ):
            self._sendAutoPing()
            self._active_at = time.monotonic()

    def onAutoPingTimeout(self) -> None:  # noqa: N802
        if self._may_delay_pong():
            self.autoPingTimeoutCall = None
            self.autoPingPending = None
        else:
            super().onAutoPingTimeout()

    def _may_delay_pong(self) -> bool:
        """Return whether this server may cause a missing pong: reading is paused, or the ping is still queued."""
        return self.is_reading_paused() or (
            self.writer_transport is not None and self.writer_transport.queued_bytes > 0
        )
