"""Connections of the real consumer in the test's own process and event loop, with an identity that the test chooses."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from channels.layers import get_channel_layer

from realtime.auth.identity import Identity
from realtime.consumers import OrchestrationConsumer
from tests.harness.tasks import end_tasks

TIMEOUT_SECONDS = 30


class InProcessClient:
    """One client. Messages are decoded; the last one of a closed connection is its close."""

    def __init__(self, identity: Identity) -> None:
        self.consumer = OrchestrationConsumer()
        self._identity = identity
        self._to_consumer: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
        self._received: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._ids = itertools.count(1)
        self.events: list[dict[str, Any]] = []

    async def open(self) -> None:
        scope = {
            "type": "websocket",
            "path": "/",
            "query_string": b"",
            "headers": [(b"host", b"localhost")],
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 8690),
            "subprotocols": [],
            "extensions": {},
        }
        await self._to_consumer.put({"type": "websocket.connect"})
        self._task = asyncio.create_task(self.consumer(scope, self._to_consumer.get, self._send))
        message = await self.next()
        assert message["event"] == "session.created", message
        self.consumer.identity = self._identity

    async def close(self) -> None:
        await self._to_consumer.put({"type": "websocket.disconnect", "code": 1000})
        await self._task

    async def _send(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "websocket.send":
            await self._received.put(json.loads(message.get("text") or message["bytes"]))
        elif message["type"] == "websocket.close":
            await self._received.put({"type": "close", "code": message.get("code"), "reason": message.get("reason")})

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            return await self._received.get()

    async def request(self, event: str, **data: Any) -> dict[str, Any]:
        """Send a request and return its response or error. Events that arrive meanwhile are in `events`."""
        id = f"r{next(self._ids)}"
        await self.send({"type": "request", "event": event, "data": data, "id": id})
        while (message := await self.next()).get("correlation_id") != id:
            self.events.append(message)
        return message

    async def send(self, message: Mapping[str, Any]) -> None:
        await self._to_consumer.put({"type": "websocket.receive", "text": json.dumps(message)})

    async def error_code(self, event: str, **data: Any) -> str | None:
        """Send a request and return the code of its error, if it is answered with one."""
        code: str | None = (await self.request(event, **data)).get("error_code")
        return code


@asynccontextmanager
async def connected(identity: Identity) -> AsyncIterator[InProcessClient]:
    client = InProcessClient(identity)
    await client.open()
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def server_parts() -> AsyncIterator[None]:
    """End the background parts that the connections of a `with` block have started."""
    before = asyncio.all_tasks()
    try:
        yield
    finally:
        # A fixture ends in another task than it began in.
        started = asyncio.all_tasks() - before - {asyncio.current_task()}
        await end_tasks(started)
        await get_channel_layer().flush()
