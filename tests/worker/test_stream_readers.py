"""Readers of streams that read slowly, get less than was written, or lose their permission."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import psutil

from realtime.limits import Limits
from tests.connection.raw_client import SMALL_BUFFER_BYTES, RawClient, all_messages, open_raw, request
from tests.harness.client import connect
from tests.harness.engine import Engine
from tests.harness.engine_fixtures import JOBS, Files
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer
from tests.harness.tokens import REQUIRES_AUTH, token
from tests.harness.waiting import eventually
from tests.worker.test_streams import PARTS, WHOLE, channel_of, closed, read_to_end, read_until

MIB = 1024 * 1024
PART = "0123456789" * 100
TIMES = 8_000
WRITTEN = PART * TIMES
BEFORE_GATE_BYTES = len("Hello, wörld ".encode())


@asynccontextmanager
async def stalled_readers(server: MahavishnuServer, channel: str, count: int) -> AsyncIterator[list[RawClient]]:
    """Connect clients that subscribe to a stream, read the response, and then read nothing."""
    async with AsyncExitStack() as stack:
        clients = []
        for _ in range(count):
            opened = open_raw(server.port, receive_buffer_bytes=SMALL_BUFFER_BYTES)
            client = await stack.enter_async_context(opened)
            await client.send(request("subscribe", channel=channel))
            assert (await client.message())["type"] == "response"
            clients.append(client)
        yield clients


def check_bytes(messages: list[dict[str, Any]]) -> list[tuple[int, int]]:
    """Check that chunks and gaps follow on each other, and what the chunks have. Return the gaps."""
    offset, gaps = 0, []
    for message in messages:
        data = message["data"]
        assert data["offset"] == offset
        if message["event"] == "stream.gap":
            gaps.append((offset, data["end"]))
            offset = data["end"]
        else:
            end = offset + len(data["delta"])
            assert data["delta"] == WRITTEN[offset:end]
            offset = end
    assert offset == len(WRITTEN)
    return gaps


async def test_burst_is_a_gap_behind_what_is_kept(engine: Engine, shared_pool: str, files: Files) -> None:
    workflow_id = engine.start("bursting", pool=shared_pool, part=PART, times=TIMES, **files.params)
    async with connect(engine.server) as client:
        await client.subscribe(channel_of(workflow_id, "burst"))
        files.open_gate()
        messages, end = await read_to_end(client)
    gaps = check_bytes(messages)
    assert gaps
    assert gaps[0][0] >= MIB
    assert end == closed(WRITTEN)


async def test_readers_that_read_nothing_cost_little_and_get_the_rest_later(
    engine: Engine, shared_pool: str, files: Files, start_server: StartServer
) -> None:
    server = start_server(beside=engine.server, environment=JOBS, send_stall_seconds=600.0)
    workflow_id = engine.start("bursting", pool=shared_pool, part=PART, times=TIMES, **files.params)
    process, channel, count = psutil.Process(server.pid), channel_of(workflow_id, "burst"), 8
    async with stalled_readers(server, channel, count) as clients:
        memory_before = process.memory_info().rss
        files.open_gate()
        async with connect(server) as witness:
            await witness.subscribe(channel)
            assert (await read_to_end(witness))[1] == closed(WRITTEN)
        # The send queue of each, and what the server itself reads once: not the stream for each.
        most_bytes = count * Limits().max_send_queue_bytes + len(WRITTEN)
        assert process.memory_info().rss - memory_before < most_bytes < count * len(WRITTEN) / 2
        for client in clients:
            messages = [await client.message()]
            while messages[-1]["event"] != "stream.closed":
                messages.append(await client.message())
            assert check_bytes(messages[:-1])
            assert messages[-1]["data"] == closed(WRITTEN)


async def test_reader_that_was_closed_as_stalled_resumes_by_its_offset(
    engine: Engine, shared_pool: str, files: Files, start_server: StartServer
) -> None:
    server = start_server(beside=engine.server, environment=JOBS, send_stall_seconds=1.0, close_timeout_seconds=60.0)
    workflow_id = engine.start("bursting", pool=shared_pool, part=PART, times=TIMES, **files.params)
    channel = channel_of(workflow_id, "burst")
    async with stalled_readers(server, channel, 1) as (client,):
        files.open_gate()
        await eventually(lambda: "nothing read for 1 s" in server.log_text(), what="the reader is closed")
        (*messages, error), _ = await all_messages(client)
    assert error["error_code"] == "SLOW_CONSUMER"
    assert messages
    last = messages[-1]["data"]
    async with connect(engine.server) as reader:
        await reader.subscribe(channel, offset=last["offset"] + len(last["delta"]), attempt=1)
        rest, end = await read_to_end(reader)
    assert check_bytes(messages + rest)
    assert end == closed(WRITTEN)


async def test_token_without_the_permission_ends_the_stream(
    engine: Engine, shared_pool: str, files: Files, start_server: StartServer
) -> None:
    workflow_id = engine.start("answering", pool=shared_pool, parts=PARTS, **files.params)
    channel, permitted = channel_of(workflow_id), f"workflow:read:{workflow_id}"
    server = start_server(beside=engine.server, environment={**JOBS, **REQUIRES_AUTH})
    async with connect(server, additional_headers={"Authorization": f"Bearer {token(permitted)}"}) as client:
        await client.subscribe(channel)
        await read_until(client, BEFORE_GATE_BYTES)
        assert (await client.request("refresh_token", token=token("workflow:read:other")))["type"] == "response"
        ended = await client.next()
        assert (ended["event"], ended["data"]) == (
            "session.unsubscribed",
            {"channel": channel, "reason": "forbidden"},
        )
        assert (await client.request("subscribe", channel=channel))["error_code"] == "FORBIDDEN"
        files.open_gate()
        await eventually(lambda: engine.workflow(workflow_id)["status"] == "completed", what="the run completes")
        assert (await client.request("refresh_token", token=token(permitted)))["type"] == "response"
        await client.subscribe(channel, offset=BEFORE_GATE_BYTES, attempt=1)
        messages, end = await read_to_end(client)
        assert "".join(each["data"]["delta"] for each in messages) == PARTS[-1]
        assert end == closed(WHOLE)
