"""Whether Redis answers, and whether the queue's Redis accepts a write. Each server has one client; it reconnects."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from django.conf import settings
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, OutOfMemoryError, ReadOnlyError, ResponseError

from orchestration.log_throttle import OutageLog

logger = logging.getLogger(__name__)

KEY: Final = "mahavishnu.health"
KEY_EXPIRY_SECONDS: Final = 60

_REDIS_SCHEMES: Final = ("redis", "rediss", "unix")


@dataclass(frozen=True, slots=True)
class RedisState:
    """What the check found.

    Attributes:
        problem: Why a Redis of the channel layer does not answer; None if all do.
        write_problem: Why the queue's Redis cannot be written; None if it can, or if the queue is not in Redis.
        error: The exception behind `problem`.
    """

    problem: str | None
    write_problem: str | None
    error: Exception | None


class RedisCheck:
    """Pings every Redis of the channel layer, and writes a key that expires into the Redis of the queue."""

    def __init__(self) -> None:
        self._clients: dict[str, Redis] = {}
        self._queue_url = queue_url(getattr(settings, "CELERY_BROKER_URL", None))
        self._may_write = True
        self._refusals = OutageLog(
            logger,
            failed="The queue's Redis refuses writes (%s); stages wait in the database",
            recovered="The queue's Redis accepts writes again",
        )

    async def run(self, *, timeout_seconds: float) -> RedisState:
        """Check the channel layer's servers at once, then the queue's. Each check has this timeout."""
        urls = tuple(settings.MAHAVISHNU_REDIS_URLS)
        errors = await asyncio.gather(*(self._ping(url, timeout_seconds) for url in urls))
        error = next((error for error in errors if error is not None), None)
        problem = None if error is None else f"redis: unavailable ({type(error).__name__})"
        # One outage is one problem.
        is_reported = error is not None and self._queue_url in urls
        return RedisState(problem, None if is_reported else await self._write(timeout_seconds), error)

    async def _ping(self, url: str, timeout_seconds: float) -> Exception | None:
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._client(url).ping()
        except Exception as error:
            return error
        return None

    async def _write(self, timeout_seconds: float) -> str | None:
        if self._queue_url is None or not self._may_write:
            return None
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._client(self._queue_url).set(KEY, "", ex=KEY_EXPIRY_SECONDS)
        except NoPermissionError as error:
            # The key is not the queue's: this says nothing about the queue.
            logger.warning("Health check: Redis forbids the key %s (%s); writes are not checked", KEY, error)
            self._may_write = False
            return None
        except ResponseError as error:
            reason = _reason(error)
            self._refusals.record_failure(error)
            return f"queue: Redis refuses writes ({reason})"
        except Exception as error:
            return f"queue: Redis unavailable ({type(error).__name__})"
        self._refusals.record_success()
        return None

    def _client(self, url: str) -> Redis:
        client = self._clients.get(url)
        if client is None:
            client = self._clients[url] = Redis.from_url(url)
        return client


def queue_url(broker_url: str | None) -> str | None:
    """Return the URL of the queue's Redis in redis-py's notation; None if the broker is another, or there are several.

    Celery writes `redis+socket:///path?virtual_host=1` for `unix:///path?db=1`.
    """
    if not broker_url or ";" in broker_url:
        return None
    url = broker_url
    if url.startswith("redis+socket:"):
        url = "unix:" + url.removeprefix("redis+socket:").replace("virtual_host=", "db=")
    if urlsplit(url).scheme not in _REDIS_SCHEMES:
        return None
    return url


def _reason(error: ResponseError) -> str:
    if isinstance(error, OutOfMemoryError):
        return "maxmemory reached"
    if isinstance(error, ReadOnlyError):
        return "read-only replica"
    # Such as MISCONF: persistence fails; or NOREPLICAS. The rest of the text is not for the public.
    word = str(error).partition(" ")[0]
    return word if word.isupper() else type(error).__name__
