"""Latency from a service call in another process to the event at a client, at rest and under load.

The clock starts before the service call, so the transaction and its commit are included. Each call
(`change_worker_status`) causes two events, `worker.status_changed` and `pool.status_changed`; a rate counts events.
*Lag grows* means that the writer fell behind, or that the last tenth of the run took more than twice as long as the
first and more than 50 ms: the rate is not sustained.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from benchmarks.contestants import Ours, ours
from benchmarks.report import Report, by_figure, percentile
from benchmarks.subscribers import Subscribers
from tests.harness.postgres import Postgres

EVENTS_PER_CALL = 2
AT_REST_CALLS = 200
AT_REST_PAUSE_SECONDS = 0.02
RATES_EVENTS_PER_SECOND = (100, 500, 1000, 1500, 2000, 3000)
RATE_SECONDS = 8.0
SUSTAINED_SECONDS = 30.0
_MAX_LAG_MS = 50.0

_SUBSCRIBE = '{"type":"request","event":"subscribe","data":{"channel":"worker:worker_1"},"id":"1"}'
_CALLS = """
import time
from datetime import datetime, timezone
from orchestration import services
began = time.monotonic()
for n in range(calls):
    wait = began + n * pause - time.monotonic()
    if wait > 0:
        time.sleep(wait)
    services.change_worker_status(
        worker_id="worker_1", status=("busy", "idle")[n % 2], at=datetime.now(timezone.utc)
    )
result = time.monotonic() - began
"""


def run(report: Report, *, rounds: int) -> None:
    """Measure on SQLite and on Postgres."""
    for database in ("sqlite", "postgres"):
        with _server(database) as server:
            at_rest = [
                measure(server, calls=AT_REST_CALLS, pause=AT_REST_PAUSE_SECONDS)["figures"] for _ in range(rounds)
            ]
            report.add(database=database, load="at rest", **by_figure(at_rest))
            sustained = 0
            for rate in RATES_EVENTS_PER_SECOND:
                found = _at_rate(server, rate, RATE_SECONDS)
                report.add(database=database, load=f"{rate} events/s", **found["figures"], lag_grows=found["grows"])
                if not found["grows"]:
                    sustained = rate
            if sustained:
                found = _at_rate(server, sustained, SUSTAINED_SECONDS)
                load = f"{sustained} events/s for {SUSTAINED_SECONDS:g} s"
                report.add(database=database, load=load, **found["figures"], lag_grows=found["grows"])


@contextmanager
def _server(database: str) -> Iterator[Ours]:
    with ExitStack() as stack:
        url = None
        if database == "postgres":
            postgres = Postgres()
            stack.callback(postgres.close)
            url = postgres.create_database()
        server = stack.enter_context(ours(url))
        prepare(server)
        yield server


def prepare(server: Ours) -> None:
    """Create the pool and the worker that `measure` changes."""
    server.server.services.create_pool(pool_id="pool_1")
    server.server.services.register_worker(worker_id="worker_1", pool_id="pool_1")


def _at_rate(server: Ours, events_per_second: int, seconds: float) -> dict[str, Any]:
    calls_per_second = events_per_second / EVENTS_PER_CALL
    return measure(server, calls=int(calls_per_second * seconds), pause=1 / calls_per_second)


def measure(server: Ours, *, calls: int, pause: float) -> dict[str, Any]:
    """Call the service `calls` times, every `pause` seconds; return the `figures`, and whether the lag `grows`."""
    subscribers = Subscribers()
    try:
        subscribers.connect(server.port, 1, send=[_SUBSCRIBE], replies=2)
        subscribers.collect(calls)
        took = server.driver.execute(_CALLS, calls=calls, pause=pause)
        found = subscribers.collected()
    finally:
        subscribers.close()
    lags = found["last_ms"]
    tenth = max(len(lags) // 10, 1)
    first, last = statistics.median(lags[:tenth]), statistics.median(lags[-tenth:])
    behind = took > calls * pause * 1.02 + 0.1
    return {
        "figures": {
            "p50_ms": percentile(lags, 50),
            "p95_ms": percentile(lags, 95),
            "p99_ms": percentile(lags, 99),
            "written_events_per_second": calls * EVENTS_PER_CALL / took,
        },
        "grows": behind or (last > 2 * first and last > _MAX_LAG_MS),
    }
