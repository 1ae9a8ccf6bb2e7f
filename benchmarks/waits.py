"""Runs that wait for an answer: what open waits take at rest, and how soon an answered run continues.

*Cores at rest* are those of the server, the scheduler and the worker together while nothing happens. *Continues* is the
time from the call that answers, in another process, until a WebSocket client has the event that the next stage started.
"""

from __future__ import annotations

import json
import time

from benchmarks.engine_runs import END_SECONDS, POOL, RunningEngine, process_cpu_ms, running_engine
from benchmarks.report import Report, by_figure, percentile

OPEN_WAITS = (0, 10_000)
ANSWERS = 100
REST_SECONDS = 20.0

_ANSWER = """
import time
from orchestration.sdk import Run
began = time.monotonic()
Run(workflow_id).answer("approve", {"approved": True}, by="ada")
result = began
"""
_OPEN = """
from orchestration.models import Wait
result = Wait.objects.filter(status="open").count()
"""


def run(report: Report, *, rounds: int) -> None:
    """Measure without open waits, and with many."""
    with running_engine() as engine:
        opened = 0
        for count in OPEN_WAITS:
            engine.start([f"open_{number}" for number in range(opened, count)], name="open_question")
            opened = count
            _wait_until_open(engine, count)
            report.add(open_waits=count, **by_figure([_measure(engine, count, number) for number in range(rounds)]))


def _wait_until_open(engine: RunningEngine, count: int) -> None:
    began = time.monotonic()
    while (found := engine.ours.driver.execute(_OPEN)) < count:
        if time.monotonic() - began > END_SECONDS:
            raise TimeoutError(f"{found} of {count} waits are open")
        time.sleep(0.1)


def _measure(engine: RunningEngine, count: int, number: int) -> dict[str, float]:
    pids = (engine.ours.server.pid, engine.scheduler.pid, engine.worker.pid)
    before_ms, began = sum(map(process_cpu_ms, pids)), time.monotonic()
    time.sleep(REST_SECONDS)
    cores = (sum(map(process_cpu_ms, pids)) - before_ms) / 1000 / (time.monotonic() - began)
    delays_ms = []
    for answer in range(ANSWERS):
        workflow_id = f"answered_{count}_{number}_{answer}"
        with engine.subscribed(f"workflow:{workflow_id}") as client:
            engine.start([workflow_id], name="open_question", pool=POOL)
            while json.loads(client.recv(timeout=END_SECONDS))["event"] != "workflow.waiting":
                pass
            answered_at = engine.ours.driver.execute(_ANSWER, workflow_id=workflow_id)
            while True:
                message = json.loads(client.recv(timeout=END_SECONDS))
                if message["event"] == "workflow.stage_started" and message["data"]["stage_name"] == "build":
                    break
            delays_ms.append((time.monotonic() - answered_at) * 1000)
    return {
        "cores_at_rest": cores,
        "continues_p50_ms": percentile(delays_ms, 50),
        "continues_p95_ms": percentile(delays_ms, 95),
    }
