"""Events of stages with and without 100 streams of 50 chunks a second beside them.

Runs of three empty stages are started at a fixed rate. *Stage p95 ms* is the time from the change of a stage, as its
event has it, until a client of `global` has received the event. *Chunk p95 ms* is the time from the write of a chunk,
which contains it, until the reader has it. The streams are written by four processes of another worker, 25 each, and
read over one connection. The cores are those of the server process and of the
worker that writes streams.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import threading
import time
from datetime import UTC, datetime
from multiprocessing.connection import Connection

from websockets.sync.client import connect

from benchmarks.accounting import cpu_ns
from benchmarks.engine_runs import RunningEngine, process_cpu_ms, running_engine
from benchmarks.report import Report, by_figure, percentile

SECONDS = 15.0
STAGES_PER_SECOND = (50, 200)
STAGES = 3
WRITERS = 4
STREAMS_PER_WRITER = 25
CHUNKS_PER_SECOND = 50

_POOL = "streams"
_TIMEOUT_SECONDS = 60.0


def run(report: Report, *, rounds: int) -> None:
    """Measure without and with streams in turn."""
    with running_engine() as engine:
        writer = engine.parts.worker(pool_id=_POOL, concurrency=WRITERS, MAHAVISHNU_MAX_STREAMS=str(STREAMS_PER_WRITER))
        for rate in STAGES_PER_SECOND:
            figures: dict[bool, list[dict[str, float]]] = {False: [], True: []}
            for number in range(rounds):
                for with_streams in (False, True):
                    name = f"{rate}_{number}_{with_streams}"
                    figures[with_streams].append(
                        _measure(engine, writer.pid, name, rate=rate, with_streams=with_streams)
                    )
            for with_streams, measured in figures.items():
                streams = WRITERS * STREAMS_PER_WRITER if with_streams else 0
                report.add(due_per_second=rate, streams=streams, **by_figure(measured))
            pairs = zip(figures[False], figures[True], strict=True)
            ratios = [after["stage_p95_ms"] / before["stage_p95_ms"] for before, after in pairs]
            report.add(due_per_second=rate, streams="ratio", stage_p95_ms=ratios)


def _measure(engine: RunningEngine, writer_pid: int, name: str, *, rate: int, with_streams: bool) -> dict[str, float]:
    delays = _Delays(engine)
    writers = [f"writer_{name}_{number}" for number in range(WRITERS)] if with_streams else []
    reader = _Reader(engine, writers) if writers else None
    pause_seconds = 1 / CHUNKS_PER_SECOND
    engine.start(writers, name="chunking", pool=_POOL, streams=STREAMS_PER_WRITER, pause_seconds=pause_seconds)
    if reader is not None:
        reader.wait_all()
    written_ms = process_cpu_ms(writer_pid)
    before_ns, began = cpu_ns(engine.ours.server.pid), time.monotonic()
    runs = 0
    while (passed := time.monotonic() - began) < SECONDS:
        due = int(passed * rate / STAGES) - runs
        if due > 0:
            engine.start([f"run_{name}_{runs + number}" for number in range(due)])
            runs += due
        time.sleep(0.01)
    cores = (cpu_ns(engine.ours.server.pid) - before_ns) / 1e9 / (time.monotonic() - began)
    writer_cores = (process_cpu_ms(writer_pid) - written_ms) / 1000 / (time.monotonic() - began)
    stage_delays, completed = delays.end()
    figures = {
        "stage_p50_ms": percentile(stage_delays, 50),
        "stage_p95_ms": percentile(stage_delays, 95),
        "stages_per_second": completed / SECONDS,
        "server_cores": cores,
        "writer_cores": writer_cores,
    }
    if reader is not None:
        figures |= reader.end()
    for writer in writers:
        engine.cancel(writer)
    return figures


class _Delays:
    """A client of `global` that notes the age of each event of a stage."""

    def __init__(self, engine: RunningEngine) -> None:
        self._delays: list[float] = []
        self._completed = 0
        self._is_ended = False
        self._subscribed = engine.subscribed("global")
        self._client = self._subscribed.__enter__()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> tuple[list[float], int]:
        self._is_ended = True
        self._thread.join()
        self._subscribed.__exit__(None, None, None)
        return self._delays, self._completed

    def _run(self) -> None:
        while not self._is_ended:
            try:
                message = json.loads(self._client.recv(timeout=0.1))
            except TimeoutError:
                continue
            if message["event"] in ("workflow.stage_started", "workflow.stage_completed"):
                now = datetime.now(UTC)
                self._delays.append((now - datetime.fromisoformat(message["timestamp"])).total_seconds() * 1000)
                self._completed += message["event"] == "workflow.stage_completed"


class _Reader:
    """A client of all streams in another process, which notes the age of each chunk."""

    def __init__(self, engine: RunningEngine, writers: list[str]) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_read_streams, args=(engine.ours.server.ws_url, writers, other))
        self._process.start()

    def wait_all(self) -> None:
        """Return when each stream has sent something."""
        if not self._pipe.poll(_TIMEOUT_SECONDS):
            raise TimeoutError("Not every stream has begun")
        self._pipe.recv()

    def end(self) -> dict[str, float]:
        self._pipe.send("end")
        figures: dict[str, float] = self._pipe.recv()
        self._process.join()
        return figures


def _read_streams(url: str, writers: list[str], pipe: Connection) -> None:
    delays: list[float] = []
    begun: set[str] = set()
    frames = gaps = 0
    began = math.inf
    with connect(url, max_queue=None) as client:
        for writer in writers:
            for number in range(STREAMS_PER_WRITER):
                data = {"channel": f"stream:{writer}/chunked/{number}"}
                client.send(json.dumps({"type": "request", "event": "subscribe", "data": data, "id": str(number)}))
        while not pipe.poll():
            message = json.loads(client.recv())
            if message["event"] == "stream.chunk":
                now = time.time()
                begun.add(message["room"])
                if len(begun) == len(writers) * STREAMS_PER_WRITER:
                    if began == math.inf:
                        began = time.monotonic()
                        pipe.send("begun")
                    frames += 1
                    delays.extend((now - float(text)) * 1000 for text in message["data"]["delta"].split("|") if text)
            gaps += message["event"] == "stream.gap"
    seconds = time.monotonic() - began
    pipe.send(
        {
            "chunk_p50_ms": percentile(delays, 50),
            "chunk_p95_ms": percentile(delays, 95),
            "chunks_per_second": len(delays) / seconds,
            "frames_per_second": frames / seconds,
            "gaps": float(gaps),
        }
    )
