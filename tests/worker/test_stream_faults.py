"""Streams of chunks while workers, servers and Valkey fail, and for readers that may not read them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest
from redis import Redis

import mahavishnu_client
from tests.harness.client import Client, connect
from tests.harness.engine import CeleryWorker, Engine
from tests.harness.engine_fixtures import FAST_POLLING, JOBS, Files
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer
from tests.harness.tokens import REQUIRES_AUTH, token
from tests.harness.waiting import eventually
from tests.javascript.node_client import node_client
from tests.worker.stored_chunks import evict_streams, stream_keys
from tests.worker.test_streams import PARTS, WHOLE, channel_of, closed, read_to_end, read_until

BEFORE_GATE = "Hello, wörld "
BEFORE_GATE_BYTES = len(BEFORE_GATE.encode())
POOL = "streams"


@pytest.fixture(scope="module")
def servers(start_module_server: StartServer) -> tuple[MahavishnuServer, MahavishnuServer]:
    """Start two server processes with one database and one Valkey that the tests may kill."""
    first = start_module_server(environment={**JOBS, **FAST_POLLING})
    return first, start_module_server(beside=first, environment={**JOBS, **FAST_POLLING})


@pytest.fixture(scope="module")
def worker(servers: tuple[MahavishnuServer, MahavishnuServer]) -> Iterator[CeleryWorker]:
    engine = Engine(servers[0])
    engine.scheduler()
    yield engine.worker(pool_id=POOL)
    engine.close()


@pytest.fixture
def engine(servers: tuple[MahavishnuServer, MahavishnuServer], worker: CeleryWorker) -> Iterator[Engine]:
    engine = Engine(servers[0])
    yield engine
    engine.finish_runs(POOL)
    engine.close()


async def read_before_gate(client: Client, channel: str) -> None:
    await client.subscribe(channel)
    assert await read_until(client, BEFORE_GATE_BYTES) == BEFORE_GATE


async def test_reader_resumes_by_offset_on_another_server(
    engine: Engine, servers: tuple[MahavishnuServer, MahavishnuServer], files: Files
) -> None:
    workflow_id = engine.start("answering", pool=POOL, parts=PARTS, **files.params)
    channel = channel_of(workflow_id)
    async with connect(servers[0]) as client:
        await read_before_gate(client, channel)
    async with connect(servers[1]) as client:
        answer = await client.subscribe(channel, offset=len(b"Hello, "), attempt=1)
        assert (answer["data"]["attempt"], answer["data"]["offset"]) == (1, 7)
        assert await read_until(client, BEFORE_GATE_BYTES, start=7) == "wörld "
        files.open_gate()
        messages, end = await read_to_end(client)
        assert "".join(each["data"]["delta"] for each in messages) == "✓"
        assert end == closed(WHOLE)


async def test_offset_of_another_attempt_begins_at_the_start(
    engine: Engine, servers: tuple[MahavishnuServer, MahavishnuServer], files: Files
) -> None:
    workflow_id = engine.start("answering", pool=POOL, parts=PARTS, **files.params)
    channel = channel_of(workflow_id)
    async with connect(servers[0]) as client:
        await read_before_gate(client, channel)
        assert (await client.subscribe(channel, offset=7, attempt=3))["data"]["offset"] == 0
        assert await read_until(client, BEFORE_GATE_BYTES) == BEFORE_GATE


async def test_next_attempt_after_a_killed_worker_resets_the_stream(
    engine: Engine, servers: tuple[MahavishnuServer, MahavishnuServer], files: Files
) -> None:
    workflow_id = engine.start("dying_once", pool=POOL, **files.params)
    channel = channel_of(workflow_id, "die_once")
    async with connect(servers[0]) as client:
        await client.subscribe(channel)
        assert await read_until(client, len("attempt 1: ")) == "attempt 1: "
        files.open_gate()
        messages, end = await read_to_end(client)
        assert (messages[0]["event"], messages[0]["data"]) == ("stream.reset", {"attempt": 2})
        assert "".join(each["data"]["delta"] for each in messages[1:]) == "attempt 2: whole"
        assert {each["data"]["attempt"] for each in messages} == {2}
        assert end == closed("attempt 2: whole", attempt=2)


async def assert_no_loss(early: Client, late: Client, channel: str) -> None:
    """Check what a reader from before the gate gets, and one that begins at 0: what Valkey had lost is there again."""
    await late.subscribe(channel)
    for client, start in ((early, BEFORE_GATE_BYTES), (late, 0)):
        messages, end = await read_to_end(client)
        assert {each["event"] for each in messages} == {"stream.chunk"}
        assert "".join(each["data"]["delta"] for each in messages).encode() == WHOLE.encode()[start:]
        assert end == closed(WHOLE)


async def test_chunks_continue_after_valkey_was_killed_without_a_loss(
    engine: Engine, servers: tuple[MahavishnuServer, MahavishnuServer], files: Files
) -> None:
    workflow_id = engine.start("answering", pool=POOL, parts=PARTS, **files.params)
    channel = channel_of(workflow_id)
    async with connect(servers[0]) as early, connect(servers[1]) as late:
        await read_before_gate(early, channel)
        servers[0].valkey.kill()
        servers[0].valkey.start()
        files.open_gate()
        await assert_no_loss(early, late, channel)


async def test_whole_is_right_while_valkey_is_dead(
    engine: Engine, servers: tuple[MahavishnuServer, MahavishnuServer], files: Files
) -> None:
    workflow_id = engine.start("answering", pool=POOL, parts=PARTS, **files.params)
    channel = channel_of(workflow_id)
    async with connect(servers[0]) as client:
        await read_before_gate(client, channel)
        servers[0].valkey.kill()
        try:
            files.open_gate()
            messages, end = await read_to_end(client)
        finally:
            servers[0].valkey.start()
        assert "".join(each["data"]["delta"] for each in messages) == "✓"
        assert end == closed(WHOLE)


async def test_chunks_that_valkey_evicted_are_sent_again(
    engine: Engine, servers: tuple[MahavishnuServer, MahavishnuServer], files: Files
) -> None:
    workflow_id = engine.start("answering", pool=POOL, parts=PARTS, **files.params)
    channel = channel_of(workflow_id)
    async with connect(servers[0]) as early, connect(servers[1]) as late:
        await read_before_gate(early, channel)
        evict_streams(servers[0])
        files.open_gate()
        await assert_no_loss(early, late, channel)


async def test_silent_stream_does_not_expire_while_its_stage_runs(
    engine: Engine, servers: tuple[MahavishnuServer, MahavishnuServer], files: Files, unique: Callable[[str], str]
) -> None:
    pool = unique("silent")
    engine.worker(pool_id=pool, MAHAVISHNU_STREAM_EXPIRY_SECONDS="3")
    evict_streams(servers[0])
    workflow_id = engine.start("answering", pool=pool, parts=PARTS, **files.params)
    async with connect(servers[0]) as client:
        await read_before_gate(client, channel_of(workflow_id))
    with Redis.from_url(servers[0].redis_url) as valkey:
        keys = stream_keys(servers[0])
        assert len(keys) == 2
        for key in keys:
            lowest_ms = valkey.pttl(key)

            def is_renewed(key: bytes = key) -> bool:
                nonlocal lowest_ms
                left_ms = valkey.pttl(key)
                lowest_ms = min(lowest_ms, left_ms)
                return bool(left_ms > lowest_ms > 0)

            await eventually(is_renewed, what="the expiry is renewed")
    async with connect(servers[1]) as client:
        await client.subscribe(channel_of(workflow_id))
        files.open_gate()
        messages, end = await read_to_end(client)
        assert "".join(each["data"]["delta"] for each in messages) == WHOLE
        assert end == closed(WHOLE)


async def test_what_exceeds_the_bound_is_a_gap_for_late_readers(
    engine: Engine, servers: tuple[MahavishnuServer, MahavishnuServer], files: Files, unique: Callable[[str], str]
) -> None:
    pool = unique("small")
    engine.worker(pool_id=pool, MAHAVISHNU_MAX_STREAM_BYTES="1024", MAHAVISHNU_MAX_STREAM_BUFFER_BYTES="2048")
    # A character has three bytes, so 1023 bytes are kept.
    workflow_id = engine.start("repeating", pool=pool, part="✓" * 100, times=20, **files.params)
    channel = channel_of(workflow_id, "repeat")
    files.open_gate()
    async with connect(servers[0]) as client:
        await client.subscribe("global", snapshot=True)
        await engine_end(client, engine, workflow_id)
        await client.unsubscribe("global")
        client.waiting()
        await client.subscribe(channel)
        messages, end = await read_to_end(client)
        assert "".join(each["data"]["delta"] for each in messages[:-1]) == "✓" * 341
        assert messages[-1]["event"] == "stream.gap"
        assert messages[-1]["data"] == {"attempt": 1, "offset": 1023, "end": 6000}
        assert end == closed("✓" * 2000)


async def test_cancelled_run_closes_its_stream(
    engine: Engine, servers: tuple[MahavishnuServer, MahavishnuServer], files: Files
) -> None:
    workflow_id = engine.start("answering", pool=POOL, parts=PARTS, **files.params)
    async with connect(servers[0]) as client:
        await read_before_gate(client, channel_of(workflow_id))
        servers[0].services.cancel_workflow(workflow_id=workflow_id)
        messages, end = await read_to_end(client)
        assert messages == []
        assert end == {"attempt": 1, "status": "cancelled", "length": BEFORE_GATE_BYTES, "sha256": None}


async def test_reader_needs_the_permission_of_the_workflow(
    engine: Engine, servers: tuple[MahavishnuServer, MahavishnuServer], files: Files, start_server: StartServer
) -> None:
    workflow_id = engine.start("answering", pool=POOL, parts=PARTS, **files.params)
    channel = channel_of(workflow_id)
    closed_server = start_server(beside=servers[0], environment={**JOBS, **REQUIRES_AUTH})
    for permission, allowed in ((f"workflow:read:{workflow_id}", True), ("workflow:read:other", False)):
        headers = {"Authorization": f"Bearer {token(permission)}"}
        async with connect(closed_server, additional_headers=headers) as client:
            answer = await client.request("subscribe", channel=channel)
            assert answer.get("error_code") == (None if allowed else "FORBIDDEN")
            if allowed:
                assert await read_until(client, BEFORE_GATE_BYTES) == BEFORE_GATE


async def test_python_client_resumes_after_the_server_was_killed(
    engine: Engine, servers: tuple[MahavishnuServer, MahavishnuServer], files: Files
) -> None:
    server = servers[1]
    workflow_id = engine.start("answering", pool=POOL, parts=PARTS, **files.params)
    async with mahavishnu_client.connect(server.ws_url) as client:
        text = ""
        stream = client.stream(workflow_id, "answer", "answer")
        async for item in stream:
            assert isinstance(item, mahavishnu_client.Chunk)
            text += str(item.data)
            if text == BEFORE_GATE:
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.start)
                files.open_gate()
        assert text == WHOLE
        assert stream.end is not None
        assert (stream.end.status, stream.end.length) == ("completed", len(WHOLE.encode()))


async def test_javascript_client_resumes_after_the_server_was_killed(
    engine: Engine, servers: tuple[MahavishnuServer, MahavishnuServer], files: Files
) -> None:
    server = servers[1]
    workflow_id = engine.start("answering", pool=POOL, parts=PARTS, **files.params)
    async with node_client(server.ws_url, firstRetryMs=50) as client:
        await client.do("stream", **{"as": "s"}, workflow_id=workflow_id, stage_name="answer", name="answer")
        text = ""
        while "end" not in (line := (await client.of("s"))[0]):
            assert line["item"]["type"] == "chunk"
            text += line["item"]["data"]
            if text == BEFORE_GATE:
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.start)
                files.open_gate()
        assert text == WHOLE
        assert line["end"] == closed(WHOLE)


async def engine_end(client: Client, engine: Engine, workflow_id: str) -> None:
    """Return when a run is completed."""
    if engine.workflow(workflow_id)["status"] != "completed":
        while (await client.event("workflow.completed"))["data"]["workflow_id"] != workflow_id:
            pass
