"""The streams that clients of this process read. One task for each Redis server reads all of them together.

Redis makes chunks fast. The database decides: twice a second, one query finds the attempts and the ends of all stages
whose streams are followed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from django.conf import settings
from redis.exceptions import RedisError

from orchestration.log_throttle import OutageLog
from realtime.database import in_database_thread
from realtime.limits import Limits
from realtime.protocol.stream_messages import StreamChannel
from realtime.queries.stream_states import (
    StageStreams,
    find_stage_streams,
    read_stage_streams,
    read_stored_bytes,
)
from realtime.streams.chunk_store import ChunkStore
from realtime.streams.followed_stream import FollowedStream, Follower
from realtime.streams.stream_reader import StreamConnection, StreamReader

logger = logging.getLogger(__name__)

_CHECK_SECONDS: Final = 0.5
_RETRY_SECONDS: Final = 0.5
_MAX_STAGES_AT_ONCE: Final = 500
_MAX_STREAMS_AT_ONCE: Final = 8
"""Streams whose chunks are sent without a pause for other work of the event loop."""


class TooManyStreams(Exception):
    """This process follows as many streams as it may."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit

    def __str__(self) -> str:
        return f"Stream limit of this server process reached ({self.limit}); try again later"


class StreamHub:
    """The followed streams of one event loop.

    Attributes:
        is_closed: Whether its tasks end.
    """

    def __init__(self, limits: Limits) -> None:
        self.is_closed = False
        self._limits = limits
        self._streams: dict[str, FollowedStream] = {}
        self._servers: dict[str, _ServerFollower] = {}
        self._checking: asyncio.Task[None] | None = None
        self._must_check = asyncio.Event()
        self._outage = OutageLog(
            logger,
            failed="Cannot read the stages of streams (%r); readers learn late that a stream has ended or was reset",
            recovered="The stages of streams are read again",
        )

    async def find(self, channel: str, names: StreamChannel) -> FollowedStream | None:
        """Return the stream of a channel, as the database has it now; None if its stage does not exist.

        Raises:
            TooManyStreams: if it is not followed yet, and no more can be.
            django.db.Error: if the database is unavailable.
        """
        found = await in_database_thread(find_stage_streams, names.workflow_id, names.stage_name)
        if found is None:
            return None
        stage, installation = found
        if (stream := self._streams.get(channel)) is not None and stream.stage.stage_id == stage.stage_id:
            stream.set_stage(stage)
            return stream
        if len(self._streams) >= self._limits.max_followed_streams:
            raise TooManyStreams(self._limits.max_followed_streams)
        return FollowedStream(channel, names.name, stage, installation=installation)

    def read(self, connection: StreamConnection, stream: FollowedStream, *, offset: int) -> StreamReader:
        """Return a reader of a stream that was found, and follow the stream for it. `leave` ends that."""
        current = self._streams.setdefault(stream.channel, stream)
        reader = StreamReader(
            connection, current, offset=offset, read_head=self._read_head, read_stored=self._read_stored
        )
        current.readers.add(reader)
        if self._checking is None:
            self._checking = asyncio.create_task(self._check_periodically())
        self._server_of(current)
        return reader

    def leave(self, channel: str, reader: Follower) -> None:
        """End a reader, and stop to follow its stream if it was the last one."""
        stream = self._streams.get(channel)
        if stream is not None:
            stream.readers.discard(reader)
            if not stream.readers:
                del self._streams[channel]

    async def close(self) -> None:
        """End all tasks, and close the connections to Redis. The readers must have left."""
        # Without a cancellation: the client of Redis may take one for the end of its read.
        self.is_closed = True
        self._must_check.set()
        tasks = [] if self._checking is None else [self._checking]
        for server in self._servers.values():
            server.has_streams.set()
            tasks.append(server.task)
        await asyncio.gather(*tasks)

    def _server_of(self, stream: FollowedStream) -> _ServerFollower | None:
        if stream.keys is None:
            return None
        url = stream.keys.server_of(settings.MAHAVISHNU_REDIS_URLS)
        server = self._servers.get(url)
        if server is None:
            server = self._servers[url] = _ServerFollower(url, self)
        server.has_streams.set()
        return server

    def streams_of(self, url: str) -> dict[str, FollowedStream]:
        """Return the followed streams that a Redis server has, by key."""
        urls = settings.MAHAVISHNU_REDIS_URLS
        return {
            each.keys.chunks: each
            for each in self._streams.values()
            if each.keys is not None and each.keys.server_of(urls) == url
        }

    def check_soon(self) -> None:
        """Look at the database at once: a stream has ended."""
        self._must_check.set()

    async def _read_head(self, stream: FollowedStream, offset: int, max_bytes: int) -> bytes:
        server = self._server_of(stream)
        if server is None or stream.keys is None:
            return b""
        try:
            return await server.store.head(stream.keys, offset, max_bytes)
        except (RedisError, OSError, TimeoutError):
            # When the server answers again, its streams are looked up again.
            stream.must_look_up = True
            return b""

    async def _read_stored(self, stream: FollowedStream, offset: int, max_bytes: int) -> bytes:
        part = await in_database_thread(
            read_stored_bytes, stream.stage.stage_id, stream.name, stream.attempt, offset, max_bytes
        )
        return part or b""

    async def _check_periodically(self) -> None:
        while not self.is_closed:
            try:
                async with asyncio.timeout(_CHECK_SECONDS):
                    await self._must_check.wait()
            except TimeoutError:
                pass
            self._must_check.clear()
            if self._streams:
                try:
                    await self._check()
                except Exception as error:
                    # The next check follows; chunks are delivered meanwhile.
                    self._outage.record_failure(error)
                else:
                    self._outage.record_success()

    async def _check(self) -> None:
        stage_ids = sorted({each.stage.stage_id for each in self._streams.values()})
        for start in range(0, len(stage_ids), _MAX_STAGES_AT_ONCE):
            part = stage_ids[start : start + _MAX_STAGES_AT_ONCE]
            found = await in_database_thread(read_stage_streams, part)
            for stream in list(self._streams.values()):
                stage_id = stream.stage.stage_id
                if stage_id in found:
                    stream.set_stage(found[stage_id])
                    self._server_of(stream)
                elif stage_id in part:
                    stream.set_stage(_removed(stream.stage))


def _removed(stage: StageStreams) -> StageStreams:
    """Return a stage whose row was removed: nothing more can come."""
    return replace(stage, status="cancelled", stored={})


class _ServerFollower:
    """Reads the followed streams of one Redis server.

    Attributes:
        store: The client.
        has_streams: Set while there may be streams to read.
        task: Reads until the hub is closed.
    """

    def __init__(self, url: str, hub: StreamHub) -> None:
        self.store = ChunkStore(url)
        self.has_streams = asyncio.Event()
        self._url = url
        self._hub = hub
        self._outage = OutageLog(
            logger,
            failed="Redis unavailable (%r); streams of running stages are delivered later",
            recovered="Redis available again; streams are delivered",
        )
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        interval_seconds = settings.MAHAVISHNU_ENGINE.stream_interval_seconds
        while not self._hub.is_closed:
            streams = self._hub.streams_of(self._url)
            if not streams:
                self.has_streams.clear()
                await self.has_streams.wait()
                continue
            try:
                await self._look_up([each for each in streams.values() if each.must_look_up])
                await self._read(streams)
            except (RedisError, OSError, TimeoutError) as error:
                self._outage.record_failure(error)
                for stream in streams.values():
                    stream.must_look_up = True
                await asyncio.sleep(_RETRY_SECONDS)
            except Exception:
                logger.exception("Reading streams failed; they are read again")
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                self._outage.record_success()
                # Chunks that arrive meanwhile are joined.
                await asyncio.sleep(interval_seconds)
        await self.store.close()

    async def _look_up(self, streams: Sequence[FollowedStream]) -> None:
        keys = [(stream, stream.keys) for stream in streams if stream.keys is not None]
        if not keys:
            return
        last_ids = await self.store.last_ids([each for _, each in keys])
        for (stream, looked_up), last_id in zip(keys, last_ids, strict=True):
            if stream.keys == looked_up:
                stream.set_last_id(last_id)

    async def _read(self, streams: dict[str, FollowedStream]) -> None:
        after = {
            key: each.last_id for key, each in streams.items() if each.last_id is not None and not each.must_look_up
        }
        if not after:
            return
        for number, (key, entries) in enumerate((await self.store.read(after)).items(), 1):
            if number % _MAX_STREAMS_AT_ONCE == 0:
                # The events of the log, and other requests, do not wait for all streams.
                await asyncio.sleep(0)
            stream = streams[key]
            # It may have another attempt meanwhile.
            is_current = stream.keys is not None and stream.keys.chunks == key and not stream.must_look_up
            if is_current and stream.add(entries):
                self._hub.check_soon()
