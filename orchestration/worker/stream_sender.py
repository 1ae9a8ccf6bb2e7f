"""Send the streams of an attempt to Redis, from a thread of the process that runs the stage.

Redis makes streams fast, and decides nothing: what was written is in memory until the attempt ends, and then in the
database. Chunks that Redis has lost, or has not taken while it was unavailable, are sent again.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import time
from threading import Event, Thread
from typing import Any, Final

from django.conf import settings
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.retry import Retry

from orchestration.limits import engine_limits
from orchestration.log_throttle import OutageLog
from orchestration.sdk import Stream
from orchestration.services import Claim, WrittenStream
from orchestration.services.installation import installation_id
from orchestration.stream_keys import DATA_FIELD, END_FIELD, OFFSET_FIELD, StreamKeys

logger = logging.getLogger(__name__)

_MAX_CHUNKS: Final = 1024
"""About how many of the last chunks Redis keeps apart. Readers that are further behind read the head."""

_MAX_CHUNKS_AT_ONCE: Final = 16
_RETRY_SECONDS: Final = 0.25
_CLOSE_SECONDS: Final = 1.0
"""How long the end of an attempt waits until its last chunks are sent."""

_RENEWAL_SHARE: Final = 0.1
"""After which part of it the expiry is renewed, also of a stream without new chunks."""

_END_EXPIRY_SECONDS: Final = 60
"""How long Redis keeps a stream that is stored in the database."""

_outage = OutageLog(
    logger,
    failed="Cannot send stream chunks to Redis (%r); they are buffered, and stored when the stage completes",
    recovered="Redis accepts stream chunks again",
)


class AttemptStreams:
    """The streams of one attempt.

    Args:
        claim: The attempt.
    """

    def __init__(self, claim: Claim) -> None:
        self._claim = claim
        self._installation = installation_id()
        self._streams: list[Stream] = []
        self._servers: dict[str, _Server] = {}
        self._written = Event()
        self._is_ended = False
        self._thread: Thread | None = None
        self._pid = os.getpid()

    def on_write(self) -> None:
        """Send soon: something was written."""
        self._written.set()

    def add(self, stream: Stream) -> None:
        """Send what is written into a stream from now on."""
        stage = self._claim.stage
        assert stage.started_at is not None, "the attempt has started"
        keys = StreamKeys.of(
            self._installation,
            stage_id=stage.pk,
            attempt=self._claim.attempt,
            started_at=stage.started_at,
            name=stream.name,
        )
        url = keys.server_of(settings.MAHAVISHNU_REDIS_URLS)
        server = self._servers.get(url) or self._servers.setdefault(url, _Server(url))
        server.streams.append(_Sender(stream, keys))
        self._streams.append(stream)
        if self._thread is None:
            self._thread = Thread(target=self._run, name="stream-sender", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End all streams, and send the rest if Redis takes it. Never raises."""
        if self._thread is None or os.getpid() != self._pid:
            return
        self._stop()
        self._thread.join(_CLOSE_SECONDS)

    def written(self) -> list[WrittenStream]:
        """Return what was written."""
        return [stream.written() for stream in self._streams]

    def end(self) -> list[WrittenStream]:
        """End all streams, and return what was written. This does not wait for Redis: a transaction is open."""
        self._stop()
        return self.written()

    def announce_end(self) -> None:
        """Announce to the servers that the attempt has ended. Without this they find out a moment later."""
        if self._thread is None or self._thread.is_alive():
            return
        for server in self._servers.values():
            with contextlib.suppress(RedisError, OSError):
                if not _outage.is_active:
                    server.announce_end()
            server.close()

    def _stop(self) -> None:
        for stream in self._streams:
            stream.close()
        self._is_ended = True
        self._written.set()

    def _run(self) -> None:
        limits = engine_limits()
        pause_seconds = limits.stream_interval_seconds
        idle_seconds = min(max(pause_seconds, 0.5), limits.stream_expiry_seconds / 4)
        while not self._is_ended:
            self._written.wait(idle_seconds)
            time.sleep(pause_seconds)
            self._written.clear()
            if not self._send() and not self._is_ended:
                time.sleep(_RETRY_SECONDS)
                self._written.set()
        self._send()

    def _send(self) -> bool:
        """Send what was written. Return False if Redis is unavailable: the rest is sent later."""
        try:
            for server in list(self._servers.values()):
                server.send()
        except (RedisError, OSError) as error:
            _outage.record_failure(error)
            return False
        _outage.record_success()
        return True


class _Server:
    """The streams of one attempt that one Redis server has, and the connection to it.

    What Redis has is looked up before chunks are sent, over the same connection: the keys may have expired or been
    evicted, and the server may have been started again.
    """

    def __init__(self, url: str) -> None:
        self.streams: list[_Sender] = []
        seconds = engine_limits().broker_timeout_seconds
        self._redis = Redis.from_url(
            url,
            socket_connect_timeout=seconds,
            socket_timeout=seconds,
            max_connections=1,
            retry=Retry(NoBackoff(), 0),
            redis_connect_func=self._on_connect,
        )
        self._may_connect = True

    def send(self) -> None:
        """Send the chunks that follow what was sent; first what Redis has lost.

        Raises:
            RedisError: if Redis is unavailable, or refuses them.
        """
        self._connect()
        try:
            while self._send_some():
                pass
        finally:
            self._may_connect = True

    def announce_end(self) -> None:
        """Announce the end of the streams, which Redis need not keep for long, and disconnect.

        Raises:
            RedisError: if Redis is unavailable.
        """
        pipeline: Any = self._redis.pipeline(transaction=False)
        for each in self.streams:
            pipeline.xadd(each.keys.chunks, {END_FIELD: 1})
            pipeline.expire(each.keys.chunks, _END_EXPIRY_SECONDS)
            pipeline.expire(each.keys.head, _END_EXPIRY_SECONDS)
        pipeline.execute()

    def close(self) -> None:
        """Disconnect."""
        self._redis.close()

    def _connect(self) -> None:
        """Connect if that is necessary. What is sent next is sent over this connection, or not at all."""
        pool = self._redis.connection_pool
        pool.release(pool.get_connection())
        self._may_connect = False

    def _on_connect(self, connection: Any) -> None:
        """Look up soon what Redis has. redis-py connects again by itself, also between two commands."""
        if not self._may_connect:
            raise RedisConnectionError("The connection was lost")
        connection.on_connect()
        for each in self.streams:
            each.renew_soon()

    def _send_some(self) -> bool:
        """Send a few chunks of each stream, and renew their expiry. Return False if there were no chunks."""
        looked_up = [each for each in self.streams if each.must_renew or each.has_more]
        if not looked_up:
            return False
        pipeline: Any = self._redis.pipeline(transaction=False)
        # The expiry first: what is found then remains.
        for each in looked_up:
            each.add_renewal_to(pipeline)
        for each in looked_up:
            pipeline.strlen(each.keys.head)
        for each, length in zip(looked_up, pipeline.execute()[-len(looked_up) :], strict=True):
            each.look_up(length)
        sent = [(each, end) for each in looked_up if (end := each.add_to(pipeline)) is not None]
        if sent:
            pipeline.execute()
        for each, end in sent:
            each.sent = end
        return bool(sent)


class _Sender:
    """What of one stream Redis has.

    Attributes:
        sent: Redis has everything up to here.
    """

    def __init__(self, stream: Stream, keys: StreamKeys) -> None:
        self.stream = stream
        self.keys = keys
        self.sent = 0
        self._renewed_at = -math.inf

    @property
    def has_more(self) -> bool:
        """Whether there are chunks that Redis lacks."""
        return self.stream.length > self.sent

    @property
    def must_renew(self) -> bool:
        """Whether it is time to renew the expiry."""
        due_at = self._renewed_at + engine_limits().stream_expiry_seconds * _RENEWAL_SHARE
        return self.sent > 0 and time.monotonic() >= due_at

    @property
    def _kept(self) -> float:
        return self.stream.kept_length if self.stream.is_full else math.inf

    def renew_soon(self) -> None:
        """Renew the expiry, and look up what Redis has, also if there are no chunks to send."""
        self._renewed_at = -math.inf

    def add_renewal_to(self, pipeline: Any) -> None:
        """Add the commands that renew the expiry, if it is time."""
        if self.must_renew:
            self._add_expiry_to(pipeline)

    def look_up(self, length: int) -> None:
        """Continue where what Redis has of the head ends. There, a chunk has ended."""
        if length < min(self.sent, self._kept):
            self.sent = length

    def add_to(self, pipeline: Any) -> int | None:
        """Add the commands for a few chunks; return where they end, None if there are none."""
        sent = self.sent
        for _ in range(_MAX_CHUNKS_AT_ONCE):
            if (chunk := self.stream.chunk_from(sent)) is None:
                break
            if chunk.offset < self._kept:
                pipeline.setrange(self.keys.head, chunk.offset, chunk.data)
            fields: Any = {OFFSET_FIELD: chunk.offset, DATA_FIELD: chunk.data}
            pipeline.xadd(self.keys.chunks, fields, maxlen=_MAX_CHUNKS, approximate=True)
            sent = chunk.offset + len(chunk.data)
        if sent == self.sent:
            return None
        if not self.sent:
            # The keys are new.
            self._add_expiry_to(pipeline)
        return sent

    def _add_expiry_to(self, pipeline: Any) -> None:
        self._renewed_at = time.monotonic()
        milliseconds = round(engine_limits().stream_expiry_seconds * 1000)
        for key in (self.keys.chunks, self.keys.head):
            pipeline.pexpire(key, milliseconds)
