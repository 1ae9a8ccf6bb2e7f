"""Status queries over 100 connections, each sent after the previous response: Mahavishnu and stock Channels.

Both read the same row of the same database. The peer is `AsyncJsonWebsocketConsumer` with Django's asynchronous ORM, as
in their documentation.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.accounting import cpu_ns
from benchmarks.contestants import Ours, ours, wait_for_port
from benchmarks.report import Report, by_figure
from benchmarks.subscribers import Subscribers
from tests.harness.ports import free_port

CONNECTIONS = 100
SECONDS = 5.0
_REQUEST = '{"type":"request","event":"get_workflow_status","data":{"workflow_id":"wf_1"},"id":"1"}'


def run(report: Report, *, rounds: int) -> None:
    """Measure both in turn, `rounds` times."""
    limits = {
        "MAHAVISHNU_MAX_MESSAGES_PER_SECOND": "100000",
        "MAHAVISHNU_MAX_MESSAGE_BURST": "100000",
        "MAHAVISHNU_MAX_TOTAL_MESSAGES_PER_SECOND": "1000000",
    }
    with ours(**limits) as server:
        server.server.services.create_workflow(workflow_id="wf_1", adapter="python", prompt="x", stages=["a", "b"])
        with _stock(server) as (stock_pid, stock_port):
            contestants = {"mahavishnu": (server.pid, server.port, 1), "channels": (stock_pid, stock_port, 0)}
            measured: dict[str, list[dict[str, float]]] = {name: [] for name in contestants}
            for _ in range(rounds):
                for name, (pid, port, greetings) in contestants.items():
                    measured[name].append(_measure(pid, port, greetings))
    for name, figures in measured.items():
        report.add(server=name, connections=CONNECTIONS, **by_figure(figures))


def _measure(pid: int, port: int, greetings: int) -> dict[str, float]:
    subscribers = Subscribers()
    try:
        subscribers.connect(port, CONNECTIONS, replies=greetings)
        subscribers.exchange(_REQUEST, seconds=0.5)
        before = cpu_ns(pid)
        found = subscribers.exchange(_REQUEST, seconds=SECONDS)
        cpu = cpu_ns(pid) - before
    finally:
        subscribers.close()
    return {
        "requests_per_second": found["answers_per_second"],
        "cpu_us_per_request": cpu / 1000 / found["answers"],
    }


@contextmanager
def _stock(server: Ours) -> Iterator[tuple[int, int]]:
    """Run the peer on the database of Mahavishnu."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "daphne",
        "-v",
        "0",
        "-p",
        str(port),
        "benchmarks.peers.stock_requests:application",
    ]
    process = subprocess.Popen(command, env={**os.environ, **server.server.environment})
    try:
        wait_for_port(port, process)
        yield process.pid, port
    finally:
        process.terminate()
        process.wait()
