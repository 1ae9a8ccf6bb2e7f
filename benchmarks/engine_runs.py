"""A server with a scheduler and a worker, and runs that are measured by a client of its WebSocket."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psutil
from websockets.sync.client import ClientConnection, connect

from benchmarks.contestants import Ours, ours
from tests.harness.engine import CeleryWorker, Engine

SLOTS = 2
POOL = "benchmark"
END_SECONDS = 300.0

_START_SECONDS = 30.0
_START = """
import time
from orchestration.sdk import find_definition
definition = find_definition(name)
result = []
for workflow_id in workflow_ids:
    began = time.monotonic()
    definition.start("", pool=pool, workflow_id=workflow_id, **params)
    result.append(began)
"""
_CANCEL = """
from orchestration import services
services.cancel_workflow(workflow_id=workflow_id)
"""


class RunningEngine:
    """A server, a scheduler and a worker with two slots."""

    def __init__(self, ours: Ours) -> None:
        self.ours = ours
        self.parts = Engine(ours.server)
        self.scheduler = self.parts.scheduler()
        self.worker: CeleryWorker = self.parts.worker(pool_id=POOL, concurrency=SLOTS)

    def start(
        self, workflow_ids: list[str], *, name: str = "three_empty_stages", pool: str = POOL, **params: Any
    ) -> list[float]:
        """Start runs one after another, and return when each was started."""
        variables = {"workflow_ids": workflow_ids, "name": name, "pool": pool, "params": params}
        found: list[float] = self.ours.driver.execute(_START, **variables)
        return found

    def run(
        self, workflow_ids: list[str], *, name: str = "three_empty_stages", **params: Any
    ) -> tuple[list[float], float]:
        """Start runs one after another and wait for all. Return the duration of each in ms, and of all in seconds."""
        with self.subscribed("global") as client, ThreadPoolExecutor(1) as thread:
            starting = thread.submit(lambda: self.start(workflow_ids, name=name, **params))
            expected = set(workflow_ids)
            ended: dict[str, float] = {}
            while len(ended) < len(expected):
                message = json.loads(client.recv(timeout=END_SECONDS))
                if message["event"] == "workflow.completed" and message["data"]["workflow_id"] in expected:
                    ended[message["data"]["workflow_id"]] = time.monotonic()
            began = dict(zip(workflow_ids, starting.result(), strict=True))
        durations_ms = [(ended[workflow_id] - began[workflow_id]) * 1000 for workflow_id in workflow_ids]
        return durations_ms, max(ended.values()) - min(began.values())

    def cancel(self, workflow_id: str) -> None:
        self.ours.driver.execute(_CANCEL, workflow_id=workflow_id)

    @contextmanager
    def subscribed(self, channel: str) -> Iterator[ClientConnection]:
        """Connect a client that is subscribed to a channel."""
        with connect(self.ours.server.ws_url) as client:
            _expect(client, "session.created")
            request = {"type": "request", "event": "subscribe", "data": {"channel": channel}, "id": "1"}
            client.send(json.dumps(request))
            _expect(client, "subscribe")
            yield client

    def cpu_ms(self, work: Callable[[], Any]) -> float:
        """Return the CPU time of the worker and its processes while `work` runs, in ms."""
        before = process_cpu_ms(self.worker.pid)
        work()
        return process_cpu_ms(self.worker.pid) - before


@contextmanager
def running_engine() -> Iterator[RunningEngine]:
    """Start a server and its engine."""
    with ours(MAHAVISHNU_APPS="tests.jobs") as server:
        engine = RunningEngine(server)
        try:
            yield engine
        finally:
            engine.parts.close()


def process_cpu_ms(pid: int) -> float:
    """Return the CPU time of a process and all its descendants, also of those that have exited, in ms."""
    process = psutil.Process(pid)
    return sum(sum(each.cpu_times()[:4]) for each in (process, *process.children(recursive=True))) * 1000


def _expect(client: ClientConnection, event: str) -> None:
    message = json.loads(client.recv(timeout=_START_SECONDS))
    if message["event"] != event:
        raise RuntimeError(f"Got {message}: expected {event}")
