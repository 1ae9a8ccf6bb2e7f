"""What a polite subscriber notices of attacks from one other address, and what they cost the server.

A subscriber receives 50 events a second. *Rest*, *during* and *after* are its latencies before, during and after the
attack, from the service call in another process (with its commit) to the event. *Connect* is the time in which a
further client connects and subscribes during the attack, the longest of several. Attackers, server and writer share
the machine, and all attackers are in one process.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.accounting import cpu_ns, resident_bytes
from benchmarks.attacker import subscribe
from benchmarks.attacker_process import ATTACKS
from benchmarks.commit_to_client import prepare
from benchmarks.contestants import Ours, ours
from benchmarks.report import Report, by_figure, percentile
from benchmarks.subscribers import Subscribers
from tests.connection.raw_client import HANDSHAKE
from tests.harness.ports import HOST

CALLS = 200
PAUSE_SECONDS = 0.02
ATTACK_SECONDS = 12.0
_BEGIN_SECONDS = 2.0
_SAMPLE_SECONDS = 0.05
_TIMEOUT_SECONDS = 20
_NEWCOMERS = 5

_SUBSCRIBE = '{"type":"request","event":"subscribe","data":{"channel":"worker:worker_1"},"id":"1"}'
_CALLS = """
import time
from datetime import datetime, timezone
from orchestration import services
began = time.monotonic()
result = []
for n in range(calls):
    time.sleep(max(began + n * pause - time.monotonic(), 0))
    services.change_worker_status(worker_id="worker_1", status=("busy", "idle")[n % 2], at=datetime.now(timezone.utc))
"""
_STORED_EVENTS = """
from datetime import datetime, timezone
from django.db import transaction
from realtime.events.receivers import announce_as_given
from orchestration import services
for room, events, padding in (("workflow:small", 10_000, 200), ("workflow:large", 400, 15_000)):
    for _ in range(events // 100):
        with transaction.atomic():
            for _ in range(100):
                announce_as_given("workflow.benchmark", rooms=(room,), timestamp=datetime.now(timezone.utc),
                                  data={"padding": "x" * padding})
services.create_workflow(workflow_id="wide", adapter="python", prompt="x", stages=[f"s{n}" for n in range(500)])
from django.contrib.auth import get_user_model
get_user_model().objects.create_superuser("admin", password="correct horse battery staple")
"""
_ENVIRONMENT = {
    "MAHAVISHNU_MAX_CONNECTIONS": "1000",
    "MAHAVISHNU_MAX_CONNECTIONS_PER_ADDRESS": "250",
    "MAHAVISHNU_TRUSTED_PROXIES": "192.0.2.1",
}
"""The attacker may open the connections that its attacks need: the server's own default is 100 for one address. Only
with this setting are addresses of this machine counted, and only if they are not those of trusted proxies.
"""


def run(report: Report, *, rounds: int) -> None:
    """Measure each attack on a new server, `rounds` times."""
    for name in ATTACKS:
        measured = []
        for _ in range(rounds):
            with ours(**_ENVIRONMENT) as server:
                prepare(server)
                server.driver.execute(_STORED_EVENTS)
                measured.append(_measure(server, name))
        report.add(attack=name, **by_figure(measured))


def _measure(server: Ours, name: str) -> dict[str, float]:
    figures: dict[str, float] = {}
    with _subscriber(server) as subscriber:
        _latencies(server, subscriber)  # Warm up.
        figures |= _named("rest", _latencies(server, subscriber))
        figures["rest_mib"] = resident_bytes(server.pid) / 2**20
        with _attacker(server, name), _peaks(server) as peaks:
            time.sleep(_BEGIN_SECONDS)
            cpu, began = cpu_ns(server.pid), time.monotonic()
            figures |= _named("during", _latencies(server, subscriber))
            figures["during_cores"] = (cpu_ns(server.pid) - cpu) / 1e9 / (time.monotonic() - began)
            figures["connect_ms"] = max(_connect_ms(server) for _ in range(_NEWCOMERS))
    figures |= peaks
    time.sleep(_BEGIN_SECONDS)
    with _subscriber(server) as subscriber:
        figures |= _named("after", _latencies(server, subscriber))
    figures["after_mib"] = resident_bytes(server.pid) / 2**20
    return figures


@contextmanager
def _subscriber(server: Ours) -> Iterator[Subscribers]:
    subscriber = Subscribers()
    try:
        subscriber.connect(server.port, 1, send=[_SUBSCRIBE], replies=2)
        yield subscriber
    finally:
        subscriber.close()


def _named(when: str, latencies: list[float]) -> dict[str, float]:
    return {f"{when}_p50_ms": percentile(latencies, 50), f"{when}_p99_ms": percentile(latencies, 99)}


def _latencies(server: Ours, subscriber: Subscribers) -> list[float]:
    subscriber.collect(CALLS)
    server.driver.execute(_CALLS, calls=CALLS, pause=PAUSE_SECONDS)
    latencies: list[float] = subscriber.collected()["last_ms"]
    return latencies


@contextmanager
def _attacker(server: Ours, name: str) -> Iterator[None]:
    command = [sys.executable, "-m", "benchmarks.attacker_process", str(server.port), name, str(ATTACK_SECONDS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield
            print(f"    {name}: {json.loads(process.stdout.read() or '{}')}", flush=True)
        finally:
            process.kill()


@contextmanager
def _peaks(server: Ours) -> Iterator[dict[str, float]]:
    """Sample memory and open files of the server process until the block ends; then yield their maxima."""
    peaks = {"peak_mib": 0.0, "peak_files": 0.0}
    is_over = threading.Event()

    def sample() -> None:
        while not is_over.wait(_SAMPLE_SECONDS):
            peaks["peak_mib"] = max(peaks["peak_mib"], resident_bytes(server.pid) / 2**20)
            peaks["peak_files"] = max(peaks["peak_files"], float(len(os.listdir(f"/proc/{server.pid}/fd"))))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield peaks
    finally:
        is_over.set()
        thread.join()


def _connect_ms(server: Ours) -> float:
    """Return the time in which a new client connects and subscribes; infinite if it is refused."""
    began = time.monotonic()
    try:
        with socket.create_connection((HOST, server.port), timeout=_TIMEOUT_SECONDS) as connection:
            connection.sendall(HANDSHAKE)
            received = b""
            while b"session.created" not in received:
                received += _receive(connection)
            connection.sendall(subscribe("pool:pool_1"))
            while b'"subscribed"' not in received:
                received += _receive(connection)
    except (TimeoutError, ConnectionError):
        return float("inf")
    return (time.monotonic() - began) * 1000


def _receive(connection: socket.socket) -> bytes:
    received = connection.recv(4096)
    if not received:
        raise ConnectionError("closed by the server")
    return received
