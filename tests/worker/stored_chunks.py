"""The streams of running stages in a Valkey."""

from __future__ import annotations

from redis import Redis

from orchestration.stream_keys import KEY_PREFIX
from tests.harness.server import MahavishnuServer


def stream_keys(server: MahavishnuServer) -> list[bytes]:
    """Return the keys of all streams in Valkey."""
    with Redis.from_url(server.redis_url) as valkey:
        return sorted(valkey.scan_iter(f"{KEY_PREFIX}*"))


def evict_streams(server: MahavishnuServer) -> None:
    """Delete all streams in Valkey, as it does when they expire or its memory is full."""
    with Redis.from_url(server.redis_url) as valkey:
        for key in stream_keys(server):
            valkey.delete(key)
