"""Resuming 10,000 missed events of 1000 rooms, by eight connections of 125 rooms each."""

from __future__ import annotations

from benchmarks.connections import COMMIT_EVENTS
from benchmarks.contestants import ours
from benchmarks.report import Report, by_figure
from benchmarks.subscribers import Subscribers

ROOMS = 1000
EVENTS_PER_ROOM = 10
CONNECTIONS = 8


def run(report: Report, *, rounds: int) -> None:
    """Measure on one server, `rounds` times."""
    measured = []
    limits = {"MAHAVISHNU_MAX_MESSAGE_BURST": "1000", "MAHAVISHNU_MAX_SUBSCRIPTIONS": "1000"}
    with ours(**limits) as server:
        for _ in range(rounds):
            since = server.driver.execute(COMMIT_EVENTS, rooms=ROOMS, per_room=EVENTS_PER_ROOM)
            measured.append(_measure(server.port, since))
    seconds = by_figure(measured)
    events = ROOMS * EVENTS_PER_ROOM
    rate = [events / figure["seconds"] for figure in measured]
    report.add(rooms=ROOMS, missed_events=events, connections=CONNECTIONS, **seconds, events_per_second=rate)


def _measure(port: int, since: int) -> dict[str, float]:
    per_connection = ROOMS // CONNECTIONS
    # Connection n subscribes to the rooms n, n + 8, n + 16, …
    subscribers = Subscribers()
    try:
        requests = [
            f'{{"type":"request","event":"subscribe","data":{{"channel":"workflow:room_{{n+{CONNECTIONS * step}}}",'
            f'"since":{since}}},"id":"{step}"}}'
            for step in range(per_connection)
        ]
        replies = 1 + per_connection * (1 + EVENTS_PER_ROOM)
        found = subscribers.connect(port, CONNECTIONS, send=requests, replies=replies)
        return {"seconds": found["answered_seconds"]}
    finally:
        subscribers.close()
