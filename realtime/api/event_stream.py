"""The messages of one stream of chunks as server-sent events: the twin of a subscription over the WebSocket.

The response ends with the stream, with the credentials of its client, or when the server stops. The client reconnects
with the id of the last message that it has, and loses nothing.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

from realtime.auth.identity import Identity
from realtime.connection.expiry import ExpiryTimer
from realtime.connection.http_output import Output
from realtime.connection.registry import TooManyConnections, connection_registry
from realtime.connection.replay_budget import ReplayBudget
from realtime.database import log_failure
from realtime.limits import Limits
from realtime.protocol.frames import Frames
from realtime.protocol.stream_messages import StreamReset, encode_stream_message, name_of_message
from realtime.protocol.token_claims import LEEWAY_SECONDS
from realtime.streams.followed_stream import FollowedStream
from realtime.streams.hub import StreamHub
from realtime.streams.stream_reader import StreamReader

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS: Final = 15.0
"""Proxies drop a response without a byte, often after a minute."""

_COMMENT: Final = b":\n\n"
_CLOSED: Final = "-closed"
_POSITION: Final = re.compile(r"([0-9]{1,9})-([0-9]{1,18})(-closed)?")


@dataclass(frozen=True, slots=True)
class StreamPosition:
    """Where a client is in a stream.

    Attributes:
        attempt: The attempt that it has chunks of; None if it has none.
        offset: Where it continues, in bytes.
        is_closed: Whether it has received that the stream is closed.
    """

    attempt: int | None
    offset: int
    is_closed: bool = False


def parse_position(text: str) -> StreamPosition | None:
    """Return the position that the id of a message names; None if it is no such id."""
    match = _POSITION.fullmatch(text)
    return None if match is None else StreamPosition(int(match[1]), int(match[2]), match[3] is not None)


class EventStream:
    """One response with the messages of a stream. It is registered like a connection, and reads like one.

    Args:
        hub: The streams of this process.
        stream: The stream, as `hub.find` has returned it.
        position: Where the client is in it.
        identity: Who the client is.
        address: The address that the response is charged to, if any.
        budget: What the reads for the client may take.
        make_output: Returns the sending side.
        limits: The bounds of a connection.
    """

    def __init__(
        self,
        hub: StreamHub,
        stream: FollowedStream,
        position: StreamPosition,
        *,
        identity: Identity,
        address: str | None,
        budget: ReplayBudget,
        make_output: Callable[[], Output],
        limits: Limits,
    ) -> None:
        self.limits = limits
        self.identity = identity
        self.replay_budget = budget
        self._hub = hub
        self._stream = stream
        self._position = position
        self._address = address
        self._make_output = make_output
        self._queued: deque[bytes] = deque()
        self._changed = asyncio.Event()
        self._has_room = asyncio.Event()
        self._is_cut = False
        self._is_draining = False

    def __str__(self) -> str:
        return f"the response with {self._stream.channel!r}"

    async def parts(self) -> AsyncIterator[bytes]:
        """Yield the parts of the body until the response ends."""
        if connection_registry.is_draining:
            return  # The drain began since that was checked, and ends no response that is registered later.
        try:
            connection_registry.register(self, address=self._address)
        except TooManyConnections:
            return  # The limit was reached meanwhile. The client reconnects.
        expiry = self._expiry_timer()
        self._output = self._make_output()
        self._reader = self._start_reader()
        reading = asyncio.create_task(self._read())
        self._output.on_resumed = self._changed.set
        try:
            if expiry is not None:
                expiry.start()
            yield _COMMENT  # The client learns at once that it is connected.
            while (part := await self._next(reading)) is not None:
                yield part
        finally:
            connection_registry.unregister(self)
            if expiry is not None:
                expiry.stop()
            self._hub.leave(self._stream.channel, self._reader)
            reading.cancel()
            self._output.close()
            await asyncio.gather(reading, return_exceptions=True)

    def _start_reader(self) -> StreamReader:
        reader = self._hub.read(self, self._stream, offset=self._position.offset)
        if self._position.attempt not in (None, reader.attempt):
            reader.offset = 0
            if self._position.attempt:
                reset = encode_stream_message(self._stream.channel, StreamReset(attempt=reader.attempt))
                self._queued.append(_encoded(f"{reader.attempt}-0", reset))
        return reader

    async def _read(self) -> None:
        try:
            await self._reader.run()
        except Exception as error:
            log_failure(logger, f"Ending {self}: it failed", error)
            self._is_cut = True
        finally:
            self._changed.set()

    async def _next(self, reading: asyncio.Task[None]) -> bytes | None:
        """Return the next part, or a comment after a time without one; None at the end."""
        while not self._is_cut:
            is_last = self._is_draining or reading.done()
            if self._queued and (is_last or not self._output.is_paused):
                return self._queued.popleft()
            if is_last:
                return None
            if not self._output.is_paused:
                self._has_room.set()
            try:
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                if not self._output.is_paused:
                    return _COMMENT
            self._changed.clear()
        return None

    # --- The protocol StreamConnection: what a StreamReader uses -----------------------------------------------------

    def write(self, frames: Frames) -> None:
        """Send messages when the client has read what is before them."""
        position = f"{self._reader.attempt}-{self._reader.offset}"
        self._has_room.clear()
        self._queued.extend(_encoded(position, message) for message in frames.messages)
        self._changed.set()

    async def caught_up(self) -> None:
        """Wait until the client has read most of what was sent. Later chunks are joined meanwhile."""
        await self._has_room.wait()

    # --- The protocol Registered: what the connection registry uses --------------------------------------------------

    def on_revoked(self) -> None:
        """End the response: its client may read no more."""
        self._is_cut = True
        self._changed.set()
        if self._output.is_paused:
            self._output.abort()

    def on_server_draining(self, *, retry_after_ms: int) -> None:
        """Send the client the time to wait before it reconnects, then end the response."""
        self._queued.append(b"retry: %d\n\n" % retry_after_ms)
        self._is_draining = True
        self._changed.set()

    def _expiry_timer(self) -> ExpiryTimer | None:
        """Return what ends the response with the credentials of its client, with the leeway of clocks."""
        now, ends_at = time.time(), self.identity.expires_at
        if ends_at is None:
            return None
        if ends_at <= now:
            ends_at += LEEWAY_SECONDS
        return ExpiryTimer(expires_at=ends_at, begun_at=now, on_expiring=_ignore, on_expired=self.on_revoked)


def _encoded(position: str, message: bytes) -> bytes:
    """Return a message as an event. JSON has no line breaks."""
    name = name_of_message(message)
    suffix = _CLOSED if name == "stream.closed" else ""
    return f"id: {position}{suffix}\nevent: {name}\ndata: ".encode() + message + b"\n\n"


def _ignore() -> None:
    """Announce nothing: the client reconnects with newer credentials after the end."""
