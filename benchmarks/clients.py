"""The Python client: events folded a second, memory of a followed run, its cost over bare `websockets`, and reconnects.

*bare* reads every message with `websockets` and decodes it with `msgspec`, into plain dicts and lists. *events* is one
iterator of all events, *follow* one iterator for each of 1,000 runs of 5 stages. The server, in another process, sends
prepared frames. CPU is that of the client's process. *Live again* is the time from the moment when a server that was
killed answers again until the client is live, with the default options.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from websockets.asyncio.client import connect as websocket_connect

from benchmarks.client_feed import EVENTS_PER_STAGE, STAGES, feed
from benchmarks.contestants import ours
from benchmarks.report import Report
from mahavishnu_client import Client, LiveRun, Options, StateStream, connect

RUNS = 1000
EVENTS = RUNS * len(STAGES) * EVENTS_PER_STAGE
RESTARTS = 10


def run(report: Report, *, rounds: int) -> None:
    """Measure each figure `rounds` times, in turn, and report the medians."""
    measured: dict[str, list[float]] = {"bare": [], "events": [], "follow": []}
    with feed(RUNS) as url:
        for _ in range(rounds):
            for name, measure in (("bare", _bare), ("events", _events), ("follow", _follow)):
                measured[name].append(asyncio.run(measure(url)))
        bytes_per_run = asyncio.run(_memory(url))
    bare = statistics.median(measured["bare"])
    for name, seconds in measured.items():
        cpu = statistics.median(seconds)
        report.add(
            client=name,
            events_per_cpu_second=EVENTS / cpu,
            cpu_us_per_event=cpu * 1e6 / EVENTS,
            percent_over_bare=(cpu / bare - 1) * 100,
        )
    report.add(client="follow", bytes_per_run=bytes_per_run)
    report.add(client="live again", median_seconds=asyncio.run(_restarts()))


async def _bare(url: str) -> float:
    decode = msgspec.json.Decoder().decode
    async with websocket_connect(url, compression=None, max_queue=256, ping_interval=None) as websocket:
        await websocket.recv()
        await websocket.send('{"type": "request", "event": "subscribe", "data": {"channel": "global"}, "id": "1"}')
        await websocket.recv()
        await websocket.send('{"type": "request", "event": "go", "data": {}, "id": "2"}')
        before, seen = time.process_time(), 0
        while seen < EVENTS:
            if "seq" in decode(await websocket.recv(decode=False)):
                seen += 1
        return time.process_time() - before


async def _events(url: str) -> float:
    async def consume(client: Client) -> Callable[[], Awaitable[None]]:
        stream = await client.subscribe_to_channel("global")

        async def finish() -> None:
            for _ in range(EVENTS):
                await anext(stream)

        return finish

    return await _measure(url, consume)


async def _follow(url: str) -> float:
    async def consume(client: Client) -> Callable[[], Awaitable[None]]:
        streams = await _following(client)

        async def finish_one(stream: StateStream[LiveRun]) -> None:
            async for state in stream:
                if state.stages_completed == len(STAGES):
                    return

        tasks = [asyncio.create_task(finish_one(stream)) for stream in streams]
        await asyncio.sleep(0)

        async def finish() -> None:
            await asyncio.gather(*tasks)

        return finish

    return await _measure(url, consume)


async def _measure(url: str, consume: Callable[[Client], Awaitable[Callable[[], Awaitable[None]]]]) -> float:
    async with connect(url, proxy=None) as client:
        await client.wait_live()
        finish = await consume(client)
        gc.collect()
        before = time.process_time()
        going = asyncio.create_task(client.request("go", {}))
        await finish()
        spent = time.process_time() - before
        await going
        return spent


async def _following(client: Client) -> list[StateStream[LiveRun]]:
    streams = [client.follow(f"wf_{number}") for number in range(RUNS)]
    for stream in streams:
        await anext(stream)
    return streams


async def _memory(url: str) -> float:
    async with connect(url, proxy=None) as client:
        await client.wait_live()
        await anext(client.follow("wf_0"))
        gc.collect()
        tracemalloc.start()
        streams = await _following(client)
        gc.collect()
        used, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return used / len(streams)


async def _restarts() -> float:
    seconds: list[float] = []
    with ours() as contestant:
        server: Any = contestant.server
        states: asyncio.Queue[str] = asyncio.Queue()
        async with connect(server.ws_url, proxy=None, on_state=states.put_nowait) as client:
            stream = client.events("global")
            for _ in range(RESTARTS):
                await client.wait_live()
                # After a shorter life of a connection, the pauses of earlier attempts still count.
                await asyncio.sleep(1.5 * Options().stable_after_seconds)
                server.kill()
                while await states.get() != "offline":
                    pass
                await asyncio.to_thread(server.start)
                began = time.monotonic()
                await client.wait_live()
                seconds.append(time.monotonic() - began)
            stream.close()
    return statistics.median(seconds)
