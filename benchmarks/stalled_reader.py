"""One subscriber that stops reading: its effect on the other clients, and on the memory of the server.

100 clients read a room at a steady pace, in turn with and without another client that stops reading after its
subscription until it is closed. *p50 ms* and *p99 ms* are the latencies of the reading clients, from the creation of an
event until they have it. *Growth* is the peak memory of the server process, minus its memory before.
"""

from __future__ import annotations

import socket
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext

from benchmarks.accounting import resident_bytes
from benchmarks.contestants import Ours, ours
from benchmarks.report import Report, by_figure
from benchmarks.subscriber_process import masked_text
from benchmarks.subscribers import Subscribers
from tests.connection.raw_client import HANDSHAKE, SMALL_BUFFER_BYTES
from tests.harness.ports import HOST

READERS = 100
EVENTS = 300
EVENT_BYTES = 8 * 1024
"""All events together exceed the kernel buffers of a stalled reader plus the 1 MiB limit of its send queue."""

_PAUSE_SECONDS = 0.01
_SETTLE_SECONDS = 0.5
_SAMPLE_SECONDS = 0.05
_TIMEOUT_SECONDS = 10
_EMIT = """
import time
from datetime import datetime, timezone
from realtime.events.receivers import announce_as_given
for _ in range(events):
    announce_as_given("workflow.benchmark", rooms=("workflow:benchmark",), timestamp=datetime.now(timezone.utc),
                      data={"sent_ns": time.monotonic_ns(), "padding": "x" * padding})
    time.sleep(pause)
"""


def run(report: Report, *, rounds: int) -> None:
    """Measure with and without a stalled reader, in turn, on one server."""
    measured: dict[bool, list[dict[str, float]]] = {False: [], True: []}
    with ours() as server:
        for is_stalled in measured:
            _measure(server, is_stalled=is_stalled)  # Warm up what all rounds share.
        for _ in range(rounds):
            for is_stalled, figures in measured.items():
                figures.append(_measure(server, is_stalled=is_stalled))
        closed = server.server.log_text().count(": slow consumer (")
    assert closed == rounds + 1, f"{closed} of {rounds + 1} stalled readers were closed"
    for is_stalled, figures in measured.items():
        report.add(readers=READERS, beside=("no other client", "a stalled reader")[is_stalled], **by_figure(figures))
    p99 = {is_stalled: statistics.median(round["p99_ms"] for round in found) for is_stalled, found in measured.items()}
    report.add(readers=READERS, beside="ratio", p99_ms=p99[True] / p99[False])


def _measure(server: Ours, *, is_stalled: bool) -> dict[str, float]:
    subscribers = Subscribers()
    try:
        subscribers.connect(server.port, READERS, send=server.subscribe, replies=server.replies)
        with _stalled_reader(server) if is_stalled else nullcontext():
            time.sleep(_SETTLE_SECONDS)
            before_bytes = resident_bytes(server.pid)
            subscribers.collect(EVENTS)
            peak_bytes = _emit(server)
            found = subscribers.collected()
        return {
            "p50_ms": found["p50_ms"],
            "p99_ms": found["p99_ms"],
            "growth_mib": (peak_bytes - before_bytes) / 2**20,
        }
    finally:
        subscribers.close()


def _emit(server: Ours) -> int:
    """Announce the events; return the peak memory of the server process in bytes."""
    with ThreadPoolExecutor(1) as thread:
        emitting = thread.submit(server.driver.execute, _EMIT, events=EVENTS, padding=EVENT_BYTES, pause=_PAUSE_SECONDS)
        peak_bytes = 0
        while not emitting.done():
            peak_bytes = max(peak_bytes, resident_bytes(server.pid))
            time.sleep(_SAMPLE_SECONDS)
        emitting.result()
    return peak_bytes


@contextmanager
def _stalled_reader(server: Ours) -> Iterator[None]:
    with socket.socket() as connection:
        connection.settimeout(_TIMEOUT_SECONDS)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)
        connection.connect((HOST, server.port))
        connection.sendall(HANDSHAKE)
        _read_until(connection, b"session.created")
        connection.sendall(b"".join(map(masked_text, server.subscribe)))
        _read_until(connection, b"subscribed")
        yield


def _read_until(connection: socket.socket, expected: bytes) -> None:
    read = b""
    while expected not in read:
        more = connection.recv(4096)
        if not more:
            raise ConnectionError(f"closed after {read!r}")
        read += more
