"""Readers of a stream whose queue is full when another attempt begins: no chunk of the first one is delivered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

import mahavishnu_client
from mahavishnu_client.sync import Chunk, Options, StreamClosed, StreamReset
from mahavishnu_client.sync import connect as sync_connect
from realtime.streams.stream_reader import PART_BYTES
from tests.harness.engine import Engine
from tests.harness.engine_fixtures import FAST_POLLING, JOBS, Files
from tests.harness.fixtures import StartServer
from tests.javascript.node_client import node_client
from tests.worker.test_streams import closed

# More than one message, also for a reader that subscribes late.
FILLER: Final = "x" * 3 * PART_BYTES
VOID: Final = f"attempt 1: {FILLER}"
WHOLE: Final = f"attempt 2: {FILLER}whole"
STAGE: Final = "die_once"
POOL: Final = "resets"


@pytest.fixture(scope="module")
def module_engine(start_module_server: StartServer) -> Iterator[Engine]:
    """Start a server, a scheduler and a worker that soon notice a killed attempt."""
    engine = Engine(start_module_server(environment={**JOBS, **FAST_POLLING}))
    engine.scheduler()
    engine.worker(pool_id=POOL)
    yield engine
    engine.close()


@pytest.fixture
def dying_engine(module_engine: Engine) -> Iterator[Engine]:
    yield module_engine
    # A test that fails leaves the slot of its run to the next one.
    module_engine.finish_runs(POOL)


def start(engine: Engine, files: Files) -> str:
    return engine.start("dying_once", pool=POOL, filler=FILLER, **files.params)


class QuickReader:
    """Takes every item as it comes. When it has the void attempt, it lets that attempt end."""

    def __init__(self, open_gate: Callable[[], None]) -> None:
        self.text = ""
        self._open_gate = open_gate

    def take(self, item: object) -> None:
        if isinstance(item, StreamReset):
            self.text = ""
            return
        assert isinstance(item, Chunk), item
        self.text += str(item.data)
        if self.text == VOID:
            self._open_gate()


def check_slow(items: list[Any], end: StreamClosed | None) -> None:
    """Check what a reader gets that has taken nothing before the second attempt: the queue shared its messages."""
    reset, *chunks = items
    assert reset == StreamReset(2)
    assert {chunk.attempt for chunk in chunks} == {2}
    assert "".join(chunk.data for chunk in chunks) == WHOLE
    assert end == StreamClosed(**closed(WHOLE, attempt=2))


async def test_reset_empties_the_full_queue_of_the_python_client(dying_engine: Engine, files: Files) -> None:
    workflow_id, quick = start(dying_engine, files), QuickReader(files.open_gate)
    options = Options(max_queued_bytes=1)
    async with mahavishnu_client.connect(dying_engine.server.ws_url, options=options) as client:
        slow, stream = client.stream(workflow_id, STAGE, "answer"), client.stream(workflow_id, STAGE, "answer")
        async for item in stream:
            quick.take(item)
        assert quick.text == WHOLE
        check_slow([item async for item in slow], slow.end)


def read_synchronously(url: str, workflow_id: str, quick: QuickReader) -> tuple[list[Any], StreamClosed | None]:
    """Read a stream with a quick reader, and then with one that was opened with it."""
    with sync_connect(url, options=Options(max_queued_bytes=1)) as client:
        slow, stream = client.stream(workflow_id, STAGE, "answer"), client.stream(workflow_id, STAGE, "answer")
        for item in stream:
            quick.take(item)
        return list(slow), slow.end


async def test_reset_empties_the_full_queue_of_the_synchronous_client(dying_engine: Engine, files: Files) -> None:
    workflow_id, quick = start(dying_engine, files), QuickReader(files.open_gate)
    items, end = await asyncio.to_thread(read_synchronously, dying_engine.server.ws_url, workflow_id, quick)
    assert quick.text == WHOLE
    check_slow(items, end)


async def test_reset_empties_the_full_queue_of_the_javascript_client(dying_engine: Engine, files: Files) -> None:
    workflow_id, quick = start(dying_engine, files), QuickReader(files.open_gate)
    names = {"workflow_id": workflow_id, "stage_name": STAGE, "name": "answer"}
    async with node_client(dying_engine.server.ws_url, maxQueuedBytes=1) as client:
        await client.do("stream", **{"as": "slow"}, **names)
        # It takes one item, and then waits.
        await client.do("pause", **{"as": "slow"})
        await client.do("stream", **{"as": "quick"}, **names)
        while "end" not in (line := (await client.of("quick"))[0]):
            quick.take(item_of(line))
        assert quick.text == WHOLE
        await client.do("resume", **{"as": "slow"})
        while "end" not in (line := (await client.of("slow"))[0]):
            pass
    first, *items = [item_of(each) for each in client.lines if each.get("of") == "slow" and "item" in each]
    assert isinstance(first, Chunk)
    assert first.attempt == 1
    check_slow(items, StreamClosed(**line["end"]))


def item_of(line: dict[str, Any]) -> Chunk | StreamReset:
    """Return the item of a line that the JavaScript driver wrote."""
    item = dict(line["item"])
    return Chunk(**item) if item.pop("type") == "chunk" else StreamReset(**item)
