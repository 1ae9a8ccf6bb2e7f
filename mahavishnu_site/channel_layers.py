"""The settings of the channel layer (`CHANNEL_LAYERS`), from `REDIS_URL`."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio.connection import ConnectionPool, parse_url
from redis.exceptions import RedisError

from mahavishnu_site.env import UnexpectedValueError

REDIS_CONNECT_TIMEOUT_SECONDS = 2
REDIS_SOCKET_TIMEOUT_SECONDS = 5
# An idle subscriber sends a PING this often, because a host that fails closes no connection.
REDIS_HEALTH_CHECK_SECONDS = 10
# The layer uses two connections of a pool: one publishes, one subscribes. redis-py allows 100 by default; this lower
# limit makes a leak visible.
REDIS_MAX_CONNECTIONS = 32

REDIS_URL_EXPECTED = "redis://host:port/number, rediss://host:port/number or unix:///path/to/socket"


def parse_redis_url(url: str) -> str:
    """Return the URL of one Redis server unchanged, if it is valid.

    Raises:
        UnexpectedValueError: if redis-py or Celery cannot use the URL.
    """
    try:
        parts = parse_url(url)
    except ValueError:
        raise UnexpectedValueError(REDIS_URL_EXPECTED) from None
    # redis-py ignores a path that is not a number. Celery, which gets the same URL, fails.
    is_bad_database = "host" in parts and re.fullmatch(r"/?[0-9]*/?", urlsplit(url).path) is None
    if is_bad_database or (not parts.get("host") and not parts.get("path")):
        raise UnexpectedValueError(REDIS_URL_EXPECTED)
    if "decode_responses" in parts:
        raise UnexpectedValueError(f"{REDIS_URL_EXPECTED}, without decode_responses: messages are bytes")
    try:
        # Nothing connects here. Otherwise, each attempt to connect would fail because of a wrong option.
        ConnectionPool.from_url(url).make_connection()  # type: ignore[no-untyped-call]
    except (TypeError, ValueError, RedisError) as error:
        raise UnexpectedValueError(f"{REDIS_URL_EXPECTED}, with options of redis-py ({error})") from None
    return url


def channel_layer(redis_urls: tuple[str, ...]) -> dict[str, Any]:
    """Return the channel layer's settings; groups are distributed over the servers of several URLs."""
    return {
        "BACKEND": "realtime.broadcast.redis_layer.TolerantPubSubChannelLayer",
        "CONFIG": {
            "hosts": [
                {
                    "address": url,
                    "socket_connect_timeout": REDIS_CONNECT_TIMEOUT_SECONDS,
                    "socket_timeout": REDIS_SOCKET_TIMEOUT_SECONDS,
                    "health_check_interval": REDIS_HEALTH_CHECK_SECONDS,
                    "max_connections": REDIS_MAX_CONNECTIONS,
                }
                for url in redis_urls
            ],
            "prefix": "mahavishnu",
        },
    }
