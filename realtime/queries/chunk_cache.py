"""The chunks of replays that were read a moment ago, for clients that resume from the same position."""

from __future__ import annotations

import asyncio

from realtime.queries.resume import ReplayChunk

_MAX_AGE_SECONDS = 1.0


class ChunkCache:
    """Keeps chunks by their channel and the position that they follow, for a second and within `max_bytes`.

    The log never changes up to the end of a chunk, so a cached chunk is as good as a new one. Its user must compare its
    epoch, and must not go beyond the end that it has to reach.

    Attributes:
        size_bytes: Memory of the kept chunks: each message is kept twice, alone and in a frame.
    """

    def __init__(self, *, max_bytes: int) -> None:
        self.size_bytes = 0
        self._max_bytes = max_bytes
        self._kept: dict[tuple[str, int], tuple[ReplayChunk, float]] = {}  # In the order in which they were added.
        self._timer: asyncio.TimerHandle | None = None

    def get(self, channel: str, after: int) -> ReplayChunk | None:
        """Return the chunk of `channel` that follows `after`, if it is kept."""
        chunk, _ = self._kept.get((channel, after), (None, 0.0))
        return chunk

    def put(self, channel: str, chunk: ReplayChunk) -> None:
        """Keep a chunk. It replaces one that begins at the same position; the oldest ones make room for it.

        A chunk that ends where it begins, at the end of the log, is not kept: a replay that has to go further would get
        it again and again.
        """
        if chunk.through <= chunk.after:
            return
        key = (channel, chunk.after)
        kept, _ = self._kept.get(key, (None, 0.0))
        if kept is chunk:
            return
        self._remove(key)
        size_bytes = _size_bytes(chunk)
        if size_bytes > self._max_bytes:
            return
        while self.size_bytes + size_bytes > self._max_bytes:
            self._remove(next(iter(self._kept)))
        loop = asyncio.get_running_loop()
        self._kept[key] = (chunk, loop.time() + _MAX_AGE_SECONDS)
        self.size_bytes += size_bytes
        if self._timer is None:
            self._timer = loop.call_later(_MAX_AGE_SECONDS, self._expire)

    def _expire(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        for key, (_, expires_at) in list(self._kept.items()):
            if expires_at > loop.time():
                self._timer = loop.call_at(expires_at, self._expire)
                return
            self._remove(key)

    def _remove(self, key: tuple[str, int]) -> None:
        chunk, _ = self._kept.pop(key, (None, 0.0))
        if chunk is not None:
            self.size_bytes -= _size_bytes(chunk)


_CHUNK_OVERHEAD_BYTES = 512


def _size_bytes(chunk: ReplayChunk) -> int:
    return 2 * chunk.size_bytes + _CHUNK_OVERHEAD_BYTES
