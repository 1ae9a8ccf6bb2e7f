"""Streams of chunks, from a stage in a real worker to clients of real servers."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable
from typing import Any

import pytest

import mahavishnu_client
from mahavishnu_client.sync import StreamClosed
from mahavishnu_client.sync import connect as sync_connect
from tests.harness.client import Client, connect
from tests.harness.engine import Engine
from tests.harness.engine_fixtures import Files

PARTS = ["Hello, ", "wörld ", "✓"]
WHOLE = "".join(PARTS)


def channel_of(workflow_id: str, stage: str = "answer", name: str = "answer") -> str:
    return f"stream:{workflow_id}/{stage}/{name}"


async def read_until(client: Client, offset: int, *, start: int = 0) -> str:
    """Return the text of the chunks up to an offset, and check that they follow on each other."""
    text = ""
    while start < offset:
        data = (await client.event("stream.chunk"))["data"]
        assert data["offset"] == start, data
        text += data["delta"]
        start += len(data["delta"].encode())
    return text


async def read_to_end(client: Client) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the messages of the only stream of a connection, and the last one."""
    messages = []
    while (message := await client.event())["event"] != "stream.closed":
        messages.append(message)
    return messages, message["data"]


def closed(text: str | bytes, *, attempt: int = 1) -> dict[str, Any]:
    data = text.encode() if isinstance(text, str) else text
    return {
        "attempt": attempt,
        "status": "completed",
        "length": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


async def test_reader_gets_chunks_as_they_come_and_the_end(engine: Engine, shared_pool: str, files: Files) -> None:
    async with connect(engine.server) as client:
        await client.subscribe("global")
        workflow_id = engine.start("answering", pool=shared_pool, parts=PARTS, **files.params)
        opened = await client.event("workflow.stream_opened")
        assert {key: opened["data"][key] for key in ("stage_name", "stream_name", "attempt", "content_type")} == {
            "stage_name": "answer",
            "stream_name": "answer",
            "attempt": 1,
            "content_type": "text",
        }
        await client.unsubscribe("global")
        client.waiting()
        channel = channel_of(workflow_id)
        answer = await client.subscribe(channel)
        assert answer["data"] == {"channel": channel, "status": "subscribed", "attempt": 1, "offset": 0}
        before_gate = "Hello, wörld "
        assert await read_until(client, len(before_gate.encode())) == before_gate
        files.open_gate()
        messages, end = await read_to_end(client)
        assert "".join(each["data"]["delta"] for each in messages) == "✓"
        assert {each["room"] for each in messages} == {channel}
        assert end == closed(WHOLE)


async def test_late_reader_gets_the_whole_from_the_database(engine: Engine, shared_pool: str, files: Files) -> None:
    async with connect(engine.server) as client:
        await client.subscribe("global")
        workflow_id = engine.start("drawing", pool=shared_pool, **files.params)
        await client.event("workflow.completed")
        await client.unsubscribe("global")
        client.waiting()
        await client.subscribe(channel_of(workflow_id, "draw/twice", "picture"))
        messages, end = await read_to_end(client)
        assert b"".join(base64.b64decode(each["data"]["base64"]) for each in messages) == bytes(range(256))
        assert end == closed(bytes(range(256)))
        await client.subscribe(channel_of(workflow_id, "draw/twice", "title"), offset=len("Ein Bild: "))
        messages, end = await read_to_end(client)
        assert "".join(each["data"]["delta"] for each in messages) == "ä🎈"
        assert end == closed("Ein Bild: ä🎈")


def read_synchronously(url: str, workflow_id: str, open_gate: Callable[[], None]) -> tuple[str, StreamClosed | None]:
    """Return the text of a stream and its end; open the gate after the first chunk."""
    text = ""
    with sync_connect(url) as client, client.stream(workflow_id, "answer", "answer") as chunks:
        for item in chunks:
            assert isinstance(item, mahavishnu_client.Chunk)
            text += str(item.data)
            open_gate()
        return text, chunks.end


async def test_synchronous_client_reads_a_stream_to_its_end(engine: Engine, shared_pool: str, files: Files) -> None:
    workflow_id = engine.start("answering", pool=shared_pool, parts=PARTS, **files.params)
    text, end = await asyncio.to_thread(read_synchronously, engine.server.ws_url, workflow_id, files.open_gate)
    assert text == WHOLE
    assert end == StreamClosed(**closed(WHOLE))


@pytest.mark.parametrize(
    ("channel", "code"),
    [("stream:wf/answer", "INVALID_CHANNEL"), ("stream:missing/answer/answer", "NOT_FOUND")],
)
async def test_stream_that_cannot_exist_is_rejected(engine: Engine, channel: str, code: str) -> None:
    async with connect(engine.server) as client:
        assert (await client.request("subscribe", channel=channel))["error_code"] == code


async def test_python_client_reads_a_stream_and_knows_it_from_the_run(
    engine: Engine, shared_pool: str, files: Files
) -> None:
    async with mahavishnu_client.connect(engine.server.ws_url) as client:
        workflow_id = engine.start("answering", pool=shared_pool, parts=PARTS, **files.params)
        async for run in client.follow(workflow_id):
            if run.stages and run.stages[0].streams:
                break
        (opened,) = run.stages[0].streams
        assert (opened.name, opened.attempt, opened.content_type) == ("answer", 1, "text")
        stream = client.stream(workflow_id, "answer", opened.name)
        text = ""
        async for item in stream:
            assert isinstance(item, mahavishnu_client.Chunk)
            text += str(item.data)
            files.open_gate()
        assert text == WHOLE
        assert stream.end is not None
        assert (stream.end.length, stream.end.sha256) == (len(WHOLE.encode()), closed(WHOLE)["sha256"])
