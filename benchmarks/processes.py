"""One, two and four processes behind one socket: how they share the clients, and the cost of each further process.

*Largest share* is the largest part of 1000 clients, connecting at once, that one process accepted. For *patiently*, 200
clients connect one after another to idle processes. CPU is that of all server processes together, and of Valkey, for
each event that is delivered to the 1000. The processes, their clients and Valkey share the machine.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import psutil

from benchmarks.accounting import cpu_ns, resident_bytes
from benchmarks.contestants import Ours, ours_with
from benchmarks.fan_out import BURST_MESSAGES, MESSAGE_BYTES
from benchmarks.peers.load import Load
from benchmarks.report import Report, by_figure
from benchmarks.subscribers import Subscribers

PROCESSES = (1, 2, 4)
CLIENTS = 1000
PATIENT_CLIENTS = 200
SINGLE_MESSAGES = 50
_PAUSE_SECONDS = 0.02
_START_SECONDS = 4.0


def run(report: Report, *, rounds: int) -> None:
    """Measure each number of processes on a new server, in turn, `rounds` times."""
    measured: dict[int, list[dict[str, float]]] = {number: [] for number in PROCESSES}
    for _ in range(rounds):
        for number in PROCESSES:
            with ours_with(number) as server:
                time.sleep(_START_SECONDS)
                measured[number].append(_measure(server))
    for number, figures in measured.items():
        report.add(processes=number, clients=CLIENTS, **by_figure(figures))


def _measure(server: Ours) -> dict[str, float]:
    pids = _pids(server)
    figures = {"mib_per_process": sum(map(resident_bytes, pids)) / len(pids) / 2**20}
    figures["largest_share_patiently"] = _patient_share(server)
    subscribers = Subscribers()
    try:
        subscribers.connect(server.port, CLIENTS, send=server.subscribe, replies=server.replies)
        figures["largest_share"] = _largest_share(server)
        _send(server, subscribers, messages=1)
        of_web, of_valkey = _stopwatch(pids), _stopwatch([server.server.valkey.pid])
        last_ms = [_send(server, subscribers, messages=1)["last_ms"][0] for _ in range(SINGLE_MESSAGES)]
        figures["last_ms_median"] = statistics.median(last_ms)
        figures["server_cpu_us_per_event"] = of_web() / SINGLE_MESSAGES
        figures["valkey_cpu_us_per_event"] = of_valkey() / SINGLE_MESSAGES
        burst = _send(server, subscribers, messages=BURST_MESSAGES)
        figures["burst_deliveries_per_second"] = BURST_MESSAGES * CLIENTS / burst["seconds"]
        return figures
    finally:
        subscribers.close()


def _send(server: Ours, subscribers: Subscribers, *, messages: int) -> dict[str, Any]:
    time.sleep(_PAUSE_SECONDS)
    subscribers.collect(messages)
    server.broadcast(Load(messages, MESSAGE_BYTES))
    return subscribers.collected()


def _patient_share(server: Ours) -> float:
    subscribers = Subscribers()
    try:
        for _ in range(PATIENT_CLIENTS):
            subscribers.connect(server.port, 1, replies=1)
        return _largest_share(server)
    finally:
        subscribers.close()


def _pids(server: Ours) -> list[int]:
    """Return the ids of the serving processes; a single process has no separate parent."""
    return [child.pid for child in psutil.Process(server.pid).children()] or [server.pid]


def _largest_share(server: Ours) -> float:
    served: Counter[int] = Counter()
    for pid in _pids(server):
        for connection in psutil.Process(pid).net_connections("tcp"):
            if connection.status == psutil.CONN_ESTABLISHED and connection.laddr.port == server.port:
                served[pid] += 1
    return max(served.values()) / served.total()


def _stopwatch(pids: list[int]) -> Callable[[], float]:
    """Start to count the CPU time of these processes together; return a function that reads it in microseconds."""
    before = sum(map(cpu_ns, pids))
    return lambda: (sum(map(cpu_ns, pids)) - before) / 1000
