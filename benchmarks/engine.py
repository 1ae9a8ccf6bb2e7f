"""Runs of three empty stages, compared with a bare Celery chain of three empty tasks on the same kind of broker.

*p50 ms* and *p95 ms* measure one run at a time, from its start in one process to `workflow.completed` at a WebSocket
client in another. A chain is measured until its last task has written to a list in Redis. *Stages per second* measures
runs started all at once, from the first start to the last end. *CPU ms per stage* is that of the worker's processes,
two of which run stages. Prefect's figures are a call of a flow with three tasks, against its server, and the concurrent
tasks of one flow. The rows with *finished* and *queued* are of the same server with this many stages stored.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import psutil
from websockets.sync.client import ClientConnection, connect

from benchmarks.accounting import cpu_ns
from benchmarks.contestants import Ours, ours, wait_for_port
from benchmarks.report import Report, by_figure, percentile
from mahavishnu_site.celery_config import broker_url
from tests.harness.engine import CeleryWorker, Engine
from tests.harness.ports import free_port
from tests.harness.programs import PROJECT_DIR
from tests.harness.server import clean_environment
from tests.harness.valkey import Valkey

STAGES = 3
SLOTS = 2
RUNS_ONE_BY_ONE = 60
RUNS_AT_ONCE = 200
PREFECT_FLOWS = 10
PREFECT_TASKS_AT_ONCE = 300
STORED = ((100_000, 0), (100_000, 10_000))
"""Finished stages, queued stages."""

_POOL = "benchmark"
_PAUSE_SECONDS = 0.05
_START_SECONDS = 30.0
_END_SECONDS = 120.0
_CHUNK = 5_000
_PREFECT_SECONDS = 600.0

_START = """
import time
from orchestration.sdk import find_definition
definition = find_definition("three_empty_stages")
result = []
for workflow_id in workflow_ids:
    began = time.monotonic()
    definition.start("", pool=pool, workflow_id=workflow_id)
    result.append(began)
"""
_FINISH = """
from django.db import transaction
from django.utils import timezone
from orchestration.models import Stage, Workflow
now = timezone.now()
for first in range(0, stages // 3, chunk):
    ids = [f"old_{number}" for number in range(first, min(first + chunk, stages // 3))]
    with transaction.atomic():
        Workflow.objects.bulk_create(
            Workflow(id=id, adapter="python", status="completed", total_stages=3, stages_completed=3, pool_id=pool,
                     result={}, started_at=now, finished_at=now) for id in ids)
        Stage.objects.bulk_create(
            Stage(workflow_id=id, name=name, position=position, step=position, status="completed", pool_id=pool,
                  attempt=1, result={}, started_at=now, finished_at=now)
            for id in ids for position, name in enumerate(("first", "second", "third")))
"""


def run(report: Report, *, rounds: int) -> None:
    """Measure Mahavishnu and the chain in turn, then Mahavishnu with stored stages."""
    with _engine() as engine, _chain() as chain:
        own_figures, chain_figures = [], []
        for number in range(rounds):
            own_figures.append(_measure(engine, f"round_{number}"))
            chain_figures.append(chain.measure())
        report.add(contestant="mahavishnu", **by_figure(own_figures))
        report.add(contestant="celery chain", **by_figure(chain_figures))
        _add_prefect(report)
        stored_finished = stored_queued = 0
        for finished, queued in STORED:
            engine.ours.driver.execute(_FINISH, stages=finished - stored_finished, pool=_POOL, chunk=_CHUNK)
            _queue(engine, queued - stored_queued)
            stored_finished, stored_queued = finished, queued
            measured = [_measure(engine, f"stored_{finished}_{queued}_{number}") for number in range(rounds)]
            report.add(contestant="mahavishnu", finished=finished, queued=queued, **by_figure(measured))


def _add_prefect(report: Report) -> None:
    """Add the row of Prefect if `BENCHMARK_PREFECT_PYTHON` names an interpreter with it; see its module."""
    python = os.environ.get("BENCHMARK_PREFECT_PYTHON")
    if not python:
        print("  prefect: BENCHMARK_PREFECT_PYTHON is not set, see benchmarks/peers/prefect_flow.py", flush=True)
        return
    port = free_port()
    api = {"PREFECT_API_URL": f"http://127.0.0.1:{port}/api", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    with tempfile.TemporaryDirectory(prefix="mahavishnu-bench-") as home:
        environment = {**clean_environment(), **api, "PREFECT_HOME": home, "PREFECT_LOGGING_LEVEL": "CRITICAL"}
        server = subprocess.Popen(
            [python, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_for_port(port, server)
            script = PROJECT_DIR / "benchmarks/peers/prefect_flow.py"
            done = subprocess.run(
                [python, script, str(PREFECT_FLOWS), str(PREFECT_TASKS_AT_ONCE)],
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
                check=True,
                timeout=_PREFECT_SECONDS,
            )
        finally:
            server.terminate()
            server.wait()
    found = json.loads(done.stdout.splitlines()[-1])
    report.add(
        contestant="prefect",
        p50_ms=percentile(found["durations_ms"], 50),
        p95_ms=percentile(found["durations_ms"], 95),
        stages_per_second=PREFECT_TASKS_AT_ONCE / found["seconds"],
    )


class _MahavishnuEngine:
    """A server, a scheduler and a worker with two slots."""

    def __init__(self, ours: Ours) -> None:
        self.ours = ours
        self.parts = Engine(ours.server)
        self.parts.scheduler()
        self.worker: CeleryWorker = self.parts.worker(pool_id=_POOL, concurrency=SLOTS)


@contextmanager
def _engine() -> Iterator[_MahavishnuEngine]:
    with ours(MAHAVISHNU_APPS="tests.jobs") as server:
        engine = _MahavishnuEngine(server)
        try:
            yield engine
        finally:
            engine.parts.close()


def _measure(engine: _MahavishnuEngine, name: str) -> dict[str, float]:
    durations_ms = []
    for number in range(RUNS_ONE_BY_ONE):
        durations_ms += _run(engine, [f"{name}_{number}"])[0]
        time.sleep(_PAUSE_SECONDS)
    cpu_ms = _cpu_ms(engine.worker.pid)
    _, seconds = _run(engine, [f"{name}_at_once_{number}" for number in range(RUNS_AT_ONCE)])
    stages = RUNS_AT_ONCE * STAGES
    return _figures(durations_ms, seconds, (_cpu_ms(engine.worker.pid) - cpu_ms) / stages)


def _figures(durations_ms: list[float], seconds: float, cpu_ms: float) -> dict[str, float]:
    return {
        "p50_ms": percentile(durations_ms, 50),
        "p95_ms": percentile(durations_ms, 95),
        "stages_per_second": RUNS_AT_ONCE * STAGES / seconds,
        "cpu_ms_per_stage": cpu_ms,
    }


def _run(engine: _MahavishnuEngine, workflow_ids: list[str]) -> tuple[list[float], float]:
    """Start these runs one after another and wait for all; return the duration of each in ms, and of all in seconds."""
    with connect(engine.ours.server.ws_url) as client, ThreadPoolExecutor(1) as thread:
        _expect(client, "session.created")
        client.send('{"type":"request","event":"subscribe","data":{"channel":"global"},"id":"1"}')
        _expect(client, "subscribe")
        starting = thread.submit(_started, engine, workflow_ids)
        expected = set(workflow_ids)
        ended: dict[str, float] = {}
        while len(ended) < len(expected):
            message = json.loads(client.recv(timeout=_END_SECONDS))
            if message["event"] == "workflow.completed" and message["data"]["workflow_id"] in expected:
                ended[message["data"]["workflow_id"]] = time.monotonic()
        began = dict(zip(workflow_ids, starting.result(), strict=True))
    durations_ms = [(ended[workflow_id] - began[workflow_id]) * 1000 for workflow_id in workflow_ids]
    return durations_ms, max(ended.values()) - min(began.values())


def _started(engine: _MahavishnuEngine, workflow_ids: list[str], *, pool: str = _POOL) -> list[float]:
    found: list[float] = engine.ours.driver.execute(_START, workflow_ids=workflow_ids, pool=pool)
    return found


def _expect(client: ClientConnection, event: str) -> None:
    message = json.loads(client.recv(timeout=_START_SECONDS))
    if message["event"] != event:
        raise RuntimeError(f"Got {message}: expected {event}")


def _queue(engine: _MahavishnuEngine, stages: int) -> None:
    """Start this many runs in a pool without a worker: the first stage of each is queued."""
    for first in range(0, stages, _CHUNK):
        ids = [f"queued_{number}" for number in range(first, min(first + _CHUNK, stages))]
        _started(engine, ids, pool="without_workers")


def _cpu_ms(pid: int) -> float:
    """Return the CPU time of a worker and all its processes, in ms."""
    process = psutil.Process(pid)
    return sum(cpu_ns(each.pid) for each in (process, *process.children(recursive=True))) / 1e6


class _Chain:
    """A bare Celery worker, and a process that starts chains."""

    def __init__(self, worker: subprocess.Popen[bytes], starter: subprocess.Popen[str]) -> None:
        self._worker = worker
        self._starter = starter

    def measure(self) -> dict[str, float]:
        durations_ms: list[float] = []
        for _ in range(RUNS_ONE_BY_ONE):
            durations_ms += self.run(1)["durations_ms"]
            time.sleep(_PAUSE_SECONDS)
        cpu_ms = _cpu_ms(self._worker.pid)
        seconds = self.run(RUNS_AT_ONCE)["seconds"]
        return _figures(durations_ms, seconds, (_cpu_ms(self._worker.pid) - cpu_ms) / (RUNS_AT_ONCE * STAGES))

    def run(self, chains: int) -> dict[str, Any]:
        assert self._starter.stdin is not None and self._starter.stdout is not None
        self._starter.stdin.write(json.dumps({"chains": chains}) + "\n")
        self._starter.stdin.flush()
        answer: dict[str, Any] = json.loads(self._starter.stdout.readline())
        return answer


@contextmanager
def _chain() -> Iterator[_Chain]:
    module = "benchmarks.peers.celery_chain"
    with ExitStack() as stack:
        valkey = Valkey()
        valkey.start()
        stack.callback(valkey.close)
        environment = {
            **clean_environment(),
            "BENCHMARK_REDIS_URL": valkey.url,
            "BENCHMARK_BROKER_URL": broker_url(valkey.url),
        }
        quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat")
        worker = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", module, "-q", "worker", "--concurrency", str(SLOTS), *quiet],
            cwd=PROJECT_DIR,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        stack.callback(worker.wait)
        stack.callback(worker.terminate)
        starter = subprocess.Popen(
            [sys.executable, "-m", module],
            cwd=PROJECT_DIR,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        stack.callback(starter.wait)
        stack.callback(starter.terminate)
        chain = _Chain(worker, starter)
        chain.run(1)  # The worker is ready once it has run a chain.
        yield chain
