"""One client that reads a stream: its offset, and the task that sends what follows, at the pace of the client.

A client that reads slowly gets later chunks joined; its connection is not closed for that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from orchestration.stream_keys import character_end, character_start
from realtime.protocol.frames import Frames
from realtime.protocol.stream_messages import (
    StreamClosed,
    StreamGap,
    StreamReset,
    encode_stream_message,
)
from realtime.streams.followed_stream import FollowedStream

PART_BYTES: Final = 64 * 1024
"""How much of a head, or of a stored stream, is read at once."""

_CHARACTER_BYTES: Final = 4

ReadPart = Callable[[FollowedStream, int, int], Awaitable[bytes]]


class ReadBudget(Protocol):
    """What the reads for a connection may take."""

    def charge(self, size_bytes: int) -> None:
        """Charge for bytes that were read."""


class StreamConnection(Protocol):
    """A connection, as a reader uses it."""

    @property
    def replay_budget(self) -> ReadBudget:
        """What is charged for parts that are read."""

    def write(self, frames: Frames) -> None:
        """Send frames now or as soon as possible, without waiting and without raising."""

    async def caught_up(self) -> None:
        """Wait until the client has read most of its send queue."""


class StreamReader:
    """Sends one stream to one connection.

    Args:
        connection: The connection.
        stream: The stream.
        offset: Where to begin.
        read_head: Reads a part of what Redis has.
        read_stored: Reads a part of what the database has.

    Attributes:
        attempt: The attempt that the last message was about.
        offset: Where that message ended, in bytes: a connection that is written to finds both as they are behind it.
    """

    def __init__(
        self,
        connection: StreamConnection,
        stream: FollowedStream,
        *,
        offset: int,
        read_head: ReadPart,
        read_stored: ReadPart,
    ) -> None:
        self.offset = offset
        self.attempt = stream.attempt
        self._connection = connection
        self._stream = stream
        self._read_head = read_head
        self._read_stored = read_stored
        self._changed = asyncio.Event()
        self._changed.set()
        self._must_look_up = not stream.must_look_up

    def wake(self) -> None:
        """Send what is new."""
        self._changed.set()

    def look_up_head(self) -> None:
        """Read what may be missing from the head before the next chunks."""
        self._must_look_up = True
        self._changed.set()

    async def run(self) -> None:
        """Send the stream until it is closed."""
        while True:
            await self._connection.caught_up()
            if await self._send_next():
                continue
            if self._is_at_end():
                self._close()
                return
            await self._changed.wait()
            self._changed.clear()

    async def _send_next(self) -> bool:
        """Send one message. Return False if there is nothing to send now."""
        stream = self._stream
        if stream.attempt != self.attempt:
            has_begun = self.attempt > 0
            self.attempt, self.offset = stream.attempt, 0
            self._must_look_up = not stream.must_look_up
            if has_begun:
                self._write(StreamReset(attempt=stream.attempt))
            return True
        if (found := stream.frames_from(self.offset)) is not None:
            frames, self.offset = found
            self._connection.write(frames)
            return True
        if stream.stored is not None:
            return await self._send_stored(stream.stored.stored_bytes, stream.stored.length)
        start = stream.tail_start
        if not self._must_look_up and (start is None or start <= self.offset):
            return False
        self._must_look_up = False
        if await self._send_part(self._read_head):
            self._must_look_up = True
            return True
        start = stream.tail_start
        if stream.must_look_up or stream.attempt != self.attempt or start is None or start <= self.offset:
            return False
        # Neither the last chunks nor the head have them.
        self._skip_to(start)
        return True

    async def _send_stored(self, stored_bytes: int, length: int) -> bool:
        if self.offset >= length:
            return False
        if self.offset < stored_bytes and await self._send_part(self._read_stored):
            return True
        self._skip_to(length)
        return True

    def _skip_to(self, end: int) -> None:
        offset, self.offset = self.offset, end
        self._write(StreamGap(attempt=self.attempt, offset=offset, end=end))

    async def _send_part(self, read: ReadPart) -> bool:
        """Send what follows of the head or the stored stream, as far as it is there. Return False if nothing is."""
        stream, attempt, offset = self._stream, self.attempt, self.offset
        data = await read(stream, offset, PART_BYTES + _CHARACTER_BYTES)
        if stream.attempt != attempt:
            return True
        if stream.content_type == "text":
            start = character_start(data)
            data = data[start : character_end(data, PART_BYTES)] if len(data) > PART_BYTES else data[start:]
            offset += start
        if not data:
            return False
        self._connection.replay_budget.charge(len(data))
        self.offset = offset + len(data)
        self._connection.write(stream.frames_of(offset, data))
        return True

    def _is_at_end(self) -> bool:
        stream = self._stream
        if stream.attempt != self.attempt or not stream.stage.is_finished:
            return False
        # While Redis is unavailable, what it has of a stage that has failed cannot be known.
        return stream.stored is not None or stream.keys is None or not stream.must_look_up

    def _close(self) -> None:
        stored = self._stream.stored
        self._write(
            StreamClosed(
                attempt=self.attempt,
                status=self._stream.stage.status,
                length=self.offset if stored is None else stored.length,
                sha256=None if stored is None else stored.sha256,
            )
        )

    def _write(self, data: StreamGap | StreamReset | StreamClosed) -> None:
        self._connection.write(Frames([encode_stream_message(self._stream.channel, data)]))
