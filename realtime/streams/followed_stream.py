"""A stream that this process follows: its attempt, its last chunks, and who reads it. No I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final, Literal, Protocol

from orchestration.stream_keys import MAX_CHUNK_BYTES, StreamKeys
from realtime.protocol.frames import Frames
from realtime.protocol.stream_messages import encode_stream_message, stream_chunk
from realtime.queries.stream_states import StageStreams, StoredStream
from realtime.streams.chunk_store import Entry

MAX_TAIL_BYTES: Final = 4 * MAX_CHUNK_BYTES
"""The last chunks of a stream that are kept for its readers. Those that are further behind read from Redis."""


class Follower(Protocol):
    """A reader of a followed stream."""

    def wake(self) -> None:
        """Look at the stream: it has changed."""

    def look_up_head(self) -> None:
        """Read what may be missing from the head before the next chunks."""


class FollowedStream:
    """One stream and its readers in this process.

    Args:
        channel: The channel, as clients name it.
        name: The name of the stream.
        stage: What the database has of its stage.
        installation: The identifier of the installation.

    Attributes:
        keys: Its keys in Redis; None before the stage starts, and if an earlier attempt has stored it.
        last_id: The id of the last entry that was read from Redis; None before the first.
        must_look_up: Whether the last entry, and what readers miss before it, are to be looked up.
        readers: Its readers.
    """

    def __init__(self, channel: str, name: str, stage: StageStreams, *, installation: str) -> None:
        self.channel = channel
        self.name = name
        self.stage = stage
        self.last_id: bytes | None = None
        self.must_look_up = True
        self.readers: set[Follower] = set()
        self._installation = installation
        self._tail: deque[tuple[int, bytes]] = deque()
        self._tail_bytes = 0
        self._frames: tuple[int, Frames, int] | None = None
        self.keys = self._keys()

    @property
    def attempt(self) -> int:
        """The attempt whose chunks are delivered."""
        return self.stage.attempt_of(self.name)

    @property
    def content_type(self) -> Literal["text", "bytes"]:
        """Whether it is text or bytes. It is announced before the first chunk, unless the database is unavailable."""
        opened = self.stage.content_types.get(self.name)
        if opened is None and self.stored is not None:
            opened = self.stored.content_type
        return "bytes" if opened == "bytes" else "text"

    @property
    def stored(self) -> StoredStream | None:
        """The stored content, if the attempt has completed its stage or begun to wait."""
        return self.stage.stored_of(self.name)

    @property
    def tail_start(self) -> int | None:
        """The offset of the first of the last chunks; None if there are none."""
        return self._tail[0][0] if self._tail else None

    @property
    def _tail_end(self) -> int:
        return self._tail[-1][0] + len(self._tail[-1][1]) if self._tail else 0

    def set_stage(self, stage: StageStreams) -> None:
        """Take what the database has now."""
        if stage == self.stage:
            return
        self.stage = stage
        if (keys := self._keys()) != self.keys:
            self._forget_chunks()
            self.keys = keys
            self.must_look_up = True
        self._wake()

    def set_last_id(self, last_id: bytes) -> None:
        """Follow Redis from an entry on. Readers look up what is before it."""
        self.last_id = last_id
        self.must_look_up = False
        self._forget_chunks()
        for reader in list(self.readers):
            reader.look_up_head()

    def add(self, entries: Iterable[Entry]) -> bool:
        """Take new entries from Redis. Return whether the stream has ended."""
        has_ended = False
        for entry in entries:
            self.last_id = entry.id
            if entry.data is None:
                has_ended = True
            else:
                self._append(entry.offset, entry.data)
        self._wake()
        return has_ended

    def frames_from(self, offset: int) -> tuple[Frames, int] | None:
        """Return the message with the next chunks and where it ends; None if the tail does not have that offset.

        Readers that are equally far share the message.
        """
        if self._frames is not None and self._frames[0] == offset:
            return self._frames[1:]
        if not self._tail or not self._tail[0][0] <= offset < self._tail_end:
            return None
        # From the end: most readers lack only the last of many small chunks.
        following: list[bytes] = []
        for start, data in reversed(self._tail):
            following.append(data[max(offset - start, 0) :])
            if start <= offset:
                break
        parts: list[bytes] = []
        size_bytes = 0
        for part in reversed(following):
            if parts and size_bytes + len(part) > MAX_CHUNK_BYTES:
                break
            parts.append(part)
            size_bytes += len(part)
        frames = self.frames_of(offset, b"".join(parts))
        self._frames = offset, frames, offset + size_bytes
        return frames, offset + size_bytes

    def frames_of(self, offset: int, data: bytes) -> Frames:
        """Return the message with these chunks."""
        chunk = stream_chunk(self.attempt, offset, data, self.content_type)
        return Frames([encode_stream_message(self.channel, chunk)])

    def _forget_chunks(self) -> None:
        self._tail.clear()
        self._tail_bytes = 0
        self._frames = None

    def _append(self, offset: int, data: bytes) -> None:
        end = self._tail_end
        if self._tail and offset <= end:
            data = data[end - offset :]
            offset = end
        elif self._tail:
            # Chunks between them were dropped, or are read from the head.
            self._tail.clear()
            self._tail_bytes = 0
        if not data:
            return
        self._frames = None
        self._tail.append((offset, data))
        self._tail_bytes += len(data)
        while self._tail_bytes > MAX_TAIL_BYTES and len(self._tail) > 1:
            self._tail_bytes -= len(self._tail.popleft()[1])

    def _keys(self) -> StreamKeys | None:
        stage = self.stage
        if stage.started_at is None or not stage.attempt or self.attempt != stage.attempt:
            return None
        return StreamKeys.of(
            self._installation,
            stage_id=stage.stage_id,
            attempt=stage.attempt,
            started_at=stage.started_at,
            name=self.name,
        )

    def _wake(self) -> None:
        for reader in list(self.readers):
            reader.wake()
