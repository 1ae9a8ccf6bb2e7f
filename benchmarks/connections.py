"""Connections: the time to open them, the memory of an idle one, and a thousand that resume at once.

*Resume* drops 1000 clients, each subscribed to a different room, commits 50 events in every room and reconnects all
clients at once with `since`. It ends when each has received its 50 events.
"""

from __future__ import annotations

import time

from benchmarks.accounting import cpu_ns, resident_bytes
from benchmarks.contestants import Ours, ours
from benchmarks.report import Report, by_figure
from benchmarks.subscribers import Subscribers

CONNECTIONS = 1000
MISSED_EVENTS = 50
_SETTLE_SECONDS = 1.0
_SUBSCRIBE = '{"type":"request","event":"subscribe","data":{"channel":"workflow:room_{n}"},"id":"1"}'
_RESUME = '{"type":"request","event":"subscribe","data":{"channel":"workflow:room_{n}","since":SEQ},"id":"1"}'
COMMIT_EVENTS = """
from datetime import datetime, timezone
from django.db import transaction
from realtime.eventlog.position import current_position
from realtime.events.receivers import announce_as_given
result = current_position().seq
for _ in range(per_room):
    with transaction.atomic():
        for n in range(rooms):
            room = f"workflow:room_{n}"
            announce_as_given("workflow.benchmark", data={"workflow_id": f"room_{n}", "padding": "x" * 100},
                              rooms=(room,), timestamp=datetime.now(timezone.utc))
from realtime.broadcast.publisher import publisher
publisher().flush(timeout_seconds=60)
"""


def run(report: Report, *, rounds: int) -> None:
    """Measure on a new server each round, so that memory starts at the same level."""
    measured = []
    for _ in range(rounds):
        with ours() as server:
            measured.append(_measure(server))
    report.add(connections=CONNECTIONS, missed_events=MISSED_EVENTS, **by_figure(measured))


def _measure(server: Ours) -> dict[str, float]:
    subscribers = Subscribers()
    try:
        # The first connections load what all share: modules, threads, caches.
        subscribers.connect(server.port, 50, send=[_SUBSCRIBE], replies=2)
        subscribers.disconnect()
        time.sleep(_SETTLE_SECONDS)
        rss, cpu = resident_bytes(server.pid), cpu_ns(server.pid)
        opened = subscribers.connect(server.port, CONNECTIONS, send=[_SUBSCRIBE], replies=2)
        time.sleep(_SETTLE_SECONDS)
        figures = {
            "connect_seconds": opened["opened_seconds"],
            "connect_and_subscribe_seconds": opened["answered_seconds"],
            "cpu_ms_per_connect": (cpu_ns(server.pid) - cpu) / 1e6 / CONNECTIONS,
            "kib_per_idle_connection": (resident_bytes(server.pid) - rss) / 1024 / CONNECTIONS,
        }
        subscribers.disconnect()
        since = server.driver.execute(COMMIT_EVENTS, rooms=CONNECTIONS, per_room=MISSED_EVENTS)
        resume = _RESUME.replace("SEQ", str(since))
        resumed = subscribers.connect(server.port, CONNECTIONS, send=[resume], replies=2 + MISSED_EVENTS)
        figures["resume_seconds"] = resumed["answered_seconds"]
        return figures
    finally:
        subscribers.close()
