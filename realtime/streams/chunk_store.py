"""Read streams of chunks from one Redis server: the end, a part of the head, and what is new in many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from redis.asyncio import Redis

from orchestration.stream_keys import DATA_FIELD, END_FIELD, OFFSET_FIELD, StreamKeys

START: Final = b"0-0"
"""The id before that of every entry."""

_TIMEOUT_SECONDS: Final = 2.0
_BLOCK_MS: Final = 100
"""How long a read waits for chunks. Streams that are followed later wait for its end."""

_MAX_ENTRIES: Final = 64
"""Entries of one stream that one read returns at most."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a stream: a chunk, or its end if `data` is None."""

    id: bytes
    offset: int
    data: bytes | None


class ChunkStore:
    """The client of one Redis server."""

    def __init__(self, url: str) -> None:
        self._redis: Any = Redis.from_url(
            url, socket_connect_timeout=_TIMEOUT_SECONDS, socket_timeout=_TIMEOUT_SECONDS, max_connections=64
        )
        # Further reads of heads wait.
        self._reading = asyncio.Semaphore(8)

    async def last_ids(self, keys: Sequence[StreamKeys]) -> list[bytes]:
        """Return the ids of the last entries of streams.

        Raises:
            redis.RedisError: if Redis is unavailable.
        """
        pipeline = self._redis.pipeline(transaction=False)
        for each in keys:
            pipeline.execute_command("XREVRANGE", each.chunks, "+", "-", "COUNT", 1)
        answers = await pipeline.execute()
        return [answer[0][0] if answer else START for answer in answers]

    async def head(self, keys: StreamKeys, offset: int, max_bytes: int) -> bytes:
        """Return bytes of the head from `offset` on; none if Redis does not have them.

        Raises:
            redis.RedisError: if Redis is unavailable.
        """
        async with self._reading:
            found: bytes = await self._redis.getrange(keys.head, offset, offset + max_bytes - 1)
        return found

    async def read(self, after: Mapping[str, bytes]) -> dict[str, list[Entry]]:
        """Wait for new entries of streams, and return them by key.

        Args:
            after: By key, the id of the last entry that is known.

        Raises:
            redis.RedisError: if Redis is unavailable.
        """
        answer = await self._redis.execute_command(
            *("XREAD", "COUNT", _MAX_ENTRIES, "BLOCK", _BLOCK_MS, "STREAMS", *after, *after.values())
        )
        return {key.decode(): [_entry(*entry) for entry in entries] for key, entries in answer or ()}

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()


def _entry(id: bytes, fields: dict[bytes, bytes]) -> Entry:
    if END_FIELD in fields:
        return Entry(id, 0, None)
    return Entry(id, int(fields[OFFSET_FIELD]), fields[DATA_FIELD])
