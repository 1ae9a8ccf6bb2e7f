"""Server-sent events with the chunks of a stage that runs in a real worker, beside a WebSocket that reads the same."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.harness.client import connect
from tests.harness.engine import Engine
from tests.harness.engine_fixtures import JOBS, Files
from tests.harness.event_source import EventSource, Received, open_events
from tests.harness.fixtures import StartServer
from tests.harness.tokens import REQUIRES_AUTH, token
from tests.worker.test_streams import PARTS, WHOLE, channel_of, closed, read_to_end

BEFORE_GATE = "Hello, wörld "


def path_of(workflow_id: str) -> str:
    return f"workflows/{workflow_id}/stages/answer/streams/answer"


async def read_before_gate(source: EventSource) -> Received:
    """Return the last event before the gate."""
    text = ""
    while text != BEFORE_GATE:
        event = await source.event()
        assert event.message["data"]["offset"] == len(text.encode())
        text += event.message["data"]["delta"]
    return event


def without_times(message: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in message.items() if name not in ("id", "timestamp")}


async def test_events_are_the_messages_of_a_subscription(engine: Engine, shared_pool: str, files: Files) -> None:
    workflow_id = engine.start("answering", pool=shared_pool, parts=PARTS, **files.params)
    channel = channel_of(workflow_id)
    async with open_events(engine.server, path_of(workflow_id)) as source, connect(engine.server) as client:
        await read_before_gate(source)
        await client.subscribe(channel, offset=len(BEFORE_GATE.encode()), attempt=1)
        files.open_gate()
        chunk, end = await source.event(), await source.event()
        assert await source.next() is None
        messages, ended = await read_to_end(client)
    assert [without_times(chunk.message)] == [without_times(each) for each in messages]
    assert [end.message["data"], ended] == [closed(WHOLE)] * 2
    length = len(WHOLE.encode())
    ids = [(each.fields["event"], each.fields["id"]) for each in (chunk, end)]
    assert ids == [("stream.chunk", f"1-{length}"), ("stream.closed", f"1-{length}-closed")]


async def test_client_resumes_with_the_last_id_on_another_server(
    engine: Engine, shared_pool: str, files: Files, start_server: StartServer
) -> None:
    other = start_server(beside=engine.server, environment=JOBS)
    workflow_id = engine.start("answering", pool=shared_pool, parts=PARTS, **files.params)
    async with open_events(engine.server, path_of(workflow_id)) as source:
        last_id = (await read_before_gate(source)).fields["id"]
    async with open_events(other, path_of(workflow_id), {"Last-Event-ID": last_id}) as source:
        files.open_gate()
        chunk, end = await source.event(), await source.event()
    assert chunk.message["data"] == {"attempt": 1, "offset": len(BEFORE_GATE.encode()), "delta": "✓"}
    assert end.message["data"] == closed(WHOLE)


async def test_revoked_token_ends_the_response(
    engine: Engine, shared_pool: str, files: Files, start_server: StartServer
) -> None:
    closed_server = start_server(beside=engine.server, environment={**JOBS, **REQUIRES_AUTH})
    workflow_id = engine.start("answering", pool=shared_pool, parts=PARTS, **files.params)
    headers = {
        name: {"Authorization": f"Bearer {token(f'workflow:read:{workflow_id}', user_id=name)}"}
        for name in ("eve", "bob")
    }
    path = path_of(workflow_id)
    async with (
        open_events(closed_server, path, headers["eve"]) as revoked,
        open_events(closed_server, path, headers["bob"]) as other,
    ):
        await read_before_gate(revoked)
        await read_before_gate(other)
        await asyncio.to_thread(closed_server.manage, "revoke_token", "--user", "eve")
        assert await revoked.next() is None
        files.open_gate()
        assert (await other.event()).message["data"]["delta"] == "✓"
    async with open_events(closed_server, path, headers["eve"]) as refused:
        assert refused.status == 401
