"""Reported events a second from one client, in batches of 100, all received in order by a subscriber of `global`.

The client waits for the answer to each batch. A batch reports runs with several stages each: the run starts, each of
its stages starts and completes, the run completes. *Reported* counts the events of the requests; *seen* is the same
count until the subscriber has received the last of them. CPU is that of the server until then.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from contextlib import ExitStack
from typing import Any

from websockets.sync.client import connect

from benchmarks.accounting import cpu_ns
from benchmarks.contestants import Ours, ours
from benchmarks.report import Report, by_figure
from tests.harness.postgres import Postgres

EVENTS_PER_BATCH = 100
BATCHES = 200
STAGES = 4
POOLS = 4

_SUBSCRIBE = '{"type":"request","event":"subscribe","data":{"channel":"global"},"id":"1"}'


def run(report: Report, *, rounds: int) -> None:
    """Measure on SQLite and on Postgres."""
    for database in ("sqlite", "postgres"):
        with ExitStack() as stack:
            url = None
            if database == "postgres":
                postgres = Postgres()
                stack.callback(postgres.close)
                url = postgres.create_database()
            server = stack.enter_context(ours(url, MAHAVISHNU_LOG_LEVEL="WARNING"))
            measure(server, "warm-up", batches=10)
            found = [measure(server, f"round{number}", batches=BATCHES) for number in range(rounds)]
            report.add(database=database, **by_figure(found))


def measure(server: Ours, name: str, *, batches: int) -> dict[str, float]:
    """Report batches of events; return the rates."""
    bodies = _bodies(name, batches)
    seen = _Seen(server.port)
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    first_seq = last_seq = 0
    began, cpu_before = time.monotonic(), cpu_ns(server.pid)
    for body in bodies:
        connection.request("POST", "/api/v1/events", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
        assert response.status == 200, answer
        results = json.loads(answer)["results"]
        first_seq, last_seq = first_seq or results[0]["seq"], results[-1]["seq"]
    reported = time.monotonic() - began
    seen.wait_for(last_seq)
    all_seen, cpu_us = time.monotonic() - began, (cpu_ns(server.pid) - cpu_before) / 1000
    seen.check(first_seq, last_seq)
    connection.close()
    events = batches * EVENTS_PER_BATCH
    return {
        "reported_events_per_second": events / reported,
        "seen_events_per_second": events / all_seen,
        "server_cpu_us_per_event": cpu_us / events,
    }


def _bodies(name: str, batches: int) -> list[bytes]:
    events: list[dict[str, Any]] = []
    number = 0
    while len(events) < batches * EVENTS_PER_BATCH:
        workflow_id = f"{name}-{number}"
        events += _run(workflow_id, pool_id=f"pool_{number % POOLS}")
        number += 1
    return [
        json.dumps(events[first : first + EVENTS_PER_BATCH]).encode()
        for first in range(0, batches * EVENTS_PER_BATCH, EVENTS_PER_BATCH)
    ]


def _run(workflow_id: str, *, pool_id: str) -> list[dict[str, Any]]:
    def event(name: str, **data: Any) -> dict[str, Any]:
        return {"event": name, "data": {"workflow_id": workflow_id, **data}}

    names = [f"stage_{number}" for number in range(STAGES)]
    new = {"adapter": "airflow", "prompt": "Write code", "pool_id": pool_id, "stages": names}
    events = [event("workflow.created", **new), event("workflow.started", adapter="airflow", prompt="Write code")]
    for name in names:
        events.append(event("workflow.stage_started", stage_name=name))
        events.append(event("workflow.stage_completed", stage_name=name, result={"output": "Success"}))
    return [*events, event("workflow.completed", result={"final_output": "Code generated successfully"})]


class _Seen:
    """What a subscriber of `global` receives, in a thread."""

    def __init__(self, port: int) -> None:
        self._connection = connect(f"ws://127.0.0.1:{port}", ping_interval=None, compression=None, max_size=None)
        self._connection.send(_SUBSCRIBE)
        while '"type":"response"' not in str(self._connection.recv()):
            pass
        self.frames: list[str] = []
        self._last = 0
        self._changed = threading.Condition()
        threading.Thread(target=self._receive, daemon=True).start()

    def _receive(self) -> None:
        for frame in self._connection:
            self.frames.append(str(frame))
            seq = _seq(self.frames[-1])
            if seq is not None:
                with self._changed:
                    self._last = seq
                    self._changed.notify_all()

    def wait_for(self, seq: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._last >= seq, timeout=60), f"got {self._last} of {seq}"

    def check(self, first_seq: int, last_seq: int) -> None:
        """Check that every event was received, once and in order."""
        seqs = [seq for seq in map(_seq, self.frames) if seq is not None]
        assert seqs[0] <= first_seq, f"the first event has seq {seqs[0]} instead of {first_seq}"
        expected = list(range(seqs[0], max(last_seq, seqs[-1]) + 1))
        assert seqs == expected, f"{len(seqs)} events instead of {len(expected)}, or in another order"
        self._connection.close()


def _seq(frame: str) -> int | None:
    head = frame.find('"seq":')
    if head < 0:
        return None
    return int(frame[head + 6 :].split(",", 1)[0].split("}", 1)[0])
