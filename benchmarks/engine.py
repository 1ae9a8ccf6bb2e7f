"""Runs of three empty stages, compared with a bare Celery chain of three empty tasks on the same kind of broker.

*p50 ms* and *p95 ms* measure one run at a time, from its start in one process to `workflow.completed` at a WebSocket
client in another. A chain is measured until its last task has written to a list in Redis. *Stages per second* measures
runs started all at once, from the first start to the last end. *CPU ms per stage* is that of the worker's processes,
two of which run stages. Prefect's figures are a call of a flow with three tasks, against its server, and the concurrent
tasks of one flow. The rows with *finished* and *queued* are of the same server with this many stages stored. Those with
*width* are of one run with this many empty stages in parallel, and of a run of one stage that starts behind it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from benchmarks.contestants import wait_for_port
from benchmarks.engine_runs import POOL, SLOTS, RunningEngine, process_cpu_ms, running_engine
from benchmarks.report import Report, by_figure, percentile
from benchmarks.wide_runs import add_wide_runs
from mahavishnu_site.celery_config import broker_url
from tests.harness.ports import free_port
from tests.harness.programs import PROJECT_DIR
from tests.harness.server import clean_environment
from tests.harness.valkey import Valkey

STAGES = 3
RUNS_ONE_BY_ONE = 60
RUNS_AT_ONCE = 200
PREFECT_FLOWS = 10
PREFECT_TASKS_AT_ONCE = 300
STORED = ((100_000, 0), (100_000, 10_000))
"""Finished stages, queued stages."""

_PAUSE_SECONDS = 0.05
_CHUNK = 5_000
_PREFECT_SECONDS = 600.0

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
    """Measure Mahavishnu and the chain in turn, then Mahavishnu with stored stages, then its wide runs."""
    with running_engine() as engine, _chain() as chain:
        own_figures, chain_figures = [], []
        for number in range(rounds):
            own_figures.append(_measure(engine, f"round_{number}"))
            chain_figures.append(chain.measure())
        report.add(contestant="mahavishnu", **by_figure(own_figures))
        report.add(contestant="celery chain", **by_figure(chain_figures))
        _add_prefect(report)
        stored_finished = stored_queued = 0
        for finished, queued in STORED:
            engine.ours.driver.execute(_FINISH, stages=finished - stored_finished, pool=POOL, chunk=_CHUNK)
            _queue(engine, queued - stored_queued)
            stored_finished, stored_queued = finished, queued
            measured = [_measure(engine, f"stored_{finished}_{queued}_{number}") for number in range(rounds)]
            report.add(contestant="mahavishnu", finished=finished, queued=queued, **by_figure(measured))
    with running_engine() as engine:
        add_wide_runs(report, engine, rounds=rounds)


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


def _measure(engine: RunningEngine, name: str) -> dict[str, float]:
    durations_ms = []
    for number in range(RUNS_ONE_BY_ONE):
        durations_ms += engine.run([f"{name}_{number}"])[0]
        time.sleep(_PAUSE_SECONDS)
    cpu_ms = process_cpu_ms(engine.worker.pid)
    _, seconds = engine.run([f"{name}_at_once_{number}" for number in range(RUNS_AT_ONCE)])
    stages = RUNS_AT_ONCE * STAGES
    return _figures(durations_ms, seconds, (process_cpu_ms(engine.worker.pid) - cpu_ms) / stages)


def _figures(durations_ms: list[float], seconds: float, cpu_ms: float) -> dict[str, float]:
    return {
        "p50_ms": percentile(durations_ms, 50),
        "p95_ms": percentile(durations_ms, 95),
        "stages_per_second": RUNS_AT_ONCE * STAGES / seconds,
        "cpu_ms_per_stage": cpu_ms,
    }


def _queue(engine: RunningEngine, stages: int) -> None:
    """Start this many runs in a pool without a worker: the first stage of each is queued."""
    for first in range(0, stages, _CHUNK):
        ids = [f"queued_{number}" for number in range(first, min(first + _CHUNK, stages))]
        engine.start(ids, pool="without_workers")


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
        cpu_ms = process_cpu_ms(self._worker.pid)
        seconds = self.run(RUNS_AT_ONCE)["seconds"]
        return _figures(durations_ms, seconds, (process_cpu_ms(self._worker.pid) - cpu_ms) / (RUNS_AT_ONCE * STAGES))

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
