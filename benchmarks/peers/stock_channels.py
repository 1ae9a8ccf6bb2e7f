"""Stock Django Channels under daphne, as in its tutorial: a group, its consumers, `group_send`.

With `BENCHMARK_REDIS_URL` the layer is channels_redis, otherwise the in-memory layer.
"""

from __future__ import annotations

import os
from typing import Any

import django
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.urls import path

from benchmarks.peers.load import Load

_redis_url = os.environ.get("BENCHMARK_REDIS_URL")
# redis-py 8 raises an error beyond 100 connections; this layer uses one for each consumer. The read timeout of redis-py
# is 5 s. That equals the time for which this layer lets Redis wait for a message, so in a busy process every consumer
# fails.
_redis_server = {"address": _redis_url, "max_connections": 100_000, "socket_timeout": None}
if not settings.configured:
    settings.configure(
        SECRET_KEY="benchmark",
        ALLOWED_HOSTS=["*"],
        CHANNEL_LAYERS={
            "default": (
                {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": [_redis_server]}}
                if _redis_url
                else {"BACKEND": "channels.layers.InMemoryChannelLayer"}
            )
        },
    )
    django.setup()

_GROUP = "benchmark"


class Subscriber(AsyncWebsocketConsumer):
    """One member of the group."""

    async def connect(self) -> None:
        await self.channel_layer.group_add(_GROUP, self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(_GROUP, self.channel_name)

    async def benchmark_message(self, event: dict[str, Any]) -> None:
        await self.send(text_data=event["text"])


class Control(AsyncWebsocketConsumer):
    """Sends the requested loads to the group."""

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        for text in Load.of(text_data or "").texts():
            await self.channel_layer.group_send(_GROUP, {"type": "benchmark.message", "text": text})


application = ProtocolTypeRouter(
    {
        "websocket": URLRouter(
            [
                path("", Subscriber.as_asgi()),
                path("control", Control.as_asgi()),
            ]
        )
    }
)
