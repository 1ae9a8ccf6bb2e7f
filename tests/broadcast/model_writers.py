"""The writers of the model-based test, and the check of what clients received against what was committed."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from tests.broadcast.model_client import SubscribeResponse, Subscription
from tests.harness.server import MahavishnuServer

# Announces events, one transaction for each item. Returns those that were committed: `[seq, number, rooms]`.
_WRITE = """
from django.db import transaction
from realtime.events.receivers import announce_as_given
from django.utils import timezone
result = []
for item in transactions:
    written = []
    try:
        with transaction.atomic():
            for number, rooms in item["events"]:
                announce_as_given(
                    "model.event" if number % 4 else "workflow.stage_log",
                    data={"number": number, "padding": "x" * item["padding"]},
                    rooms=tuple(rooms),
                    timestamp=timezone.now(),
                    on_written=lambda seq, number=number, rooms=rooms: written.append([seq, number, rooms]),
                )
            if item["rolled_back"]:
                raise InterruptedError
    except InterruptedError:
        continue
    result += written
"""

_PRUNE = """
from datetime import timedelta
from realtime.eventlog.position import current_position
from realtime.eventlog.retention import Retention, prune_events
from django.utils import timezone
prune_events(Retention(max_events=keep, max_age=timedelta(days=1), min_age=timedelta(0)), at=timezone.now())
result = current_position().trimmed_seq
"""

_RENEW = "from realtime.eventlog.epoch import renew_epoch\nresult = renew_epoch()"


@dataclass(frozen=True)
class CommittedEvent:
    """One event that is in the log, or was until it was pruned."""

    seq: int
    number: int
    rooms: tuple[str, ...]


class Writers:
    """Processes that announce events, each one batch at a time, and the list of all events that they committed."""

    def __init__(self, server: MahavishnuServer, count: int) -> None:
        self._drivers = [server.driver() for _ in range(count)]
        self._threads = [ThreadPoolExecutor(1) for _ in range(count)]
        self._numbers = itertools.count(1)
        self._running: list[Future[list[Any]]] = []
        self.committed: list[CommittedEvent] = []
        self.trimmed_seq = 0

    def start(self, writer: int, transactions: Iterable[tuple[list[list[str]], int, bool]]) -> None:
        """Start to write: for each transaction the rooms of its events, bytes of padding, whether it is rolled back."""
        batch = [
            {
                "events": [(next(self._numbers), rooms) for rooms in rooms_of_events],
                "padding": padding,
                "rolled_back": rolled_back,
            }
            for rooms_of_events, padding, rolled_back in transactions
        ]
        driver = self._drivers[writer]
        self._running.append(self._threads[writer].submit(driver.execute, _WRITE, transactions=batch))

    def finish(self) -> None:
        """Wait until all started batches are written."""
        for writing in self._running:
            self.committed += [CommittedEvent(seq, number, tuple(rooms)) for seq, number, rooms in writing.result()]
        self._running.clear()
        self.committed.sort(key=lambda event: event.seq)

    def in_room(self, room: str) -> list[CommittedEvent]:
        """Return the committed events that a room carries."""
        return [
            event
            for event in self.committed
            if room == "global" or (room == "summary" and event.number % 4) or room in event.rooms
        ]

    def prune(self, keep: int) -> None:
        self.trimmed_seq = self._threads[0].submit(self._drivers[0].execute, _PRUNE, keep=keep).result()

    def renew_epoch(self) -> str:
        epoch: str = self._threads[0].submit(self._drivers[0].execute, _RENEW).result()
        return epoch

    def close(self) -> None:
        for threads in self._threads:
            threads.shutdown()


def check_history(subscription: Subscription, writers: Writers, *, keeps_one_number: bool) -> None:
    """Check what a client received in one room against what was committed: no event lost, doubled or out of order.

    Events may be missing only where a response said so, with a reason that is true. A client that keeps one number for
    all rooms receives again the events of the room above that number, and no others.
    """
    room = subscription.room
    in_room = writers.in_room(room)
    position = handled = -1
    response_seq = -1
    for entry in subscription.history:
        if isinstance(entry, SubscribeResponse):
            response_seq = -1
            if keeps_one_number and entry.since is not None:
                lost = [event for event in in_room if handled < event.seq <= entry.since]
                assert not lost or entry.epoch != entry.data["epoch"], (entry, handled, lost)
                position = entry.since
            assert entry.since is None or entry.since == position, (entry, position)
            if entry.since is None:
                position = entry.data["seq"]
            elif entry.data["recovered"]:
                response_seq = entry.data["seq"]
                missed = [event.seq for event in in_room if position < event.seq <= response_seq]
                assert entry.data["missed"] == len(missed), (entry, missed)
            else:
                assert entry.data["missed"] == 0
                if entry.data["reason"] == "epoch":
                    assert entry.epoch != entry.data["epoch"]
                else:
                    assert (entry.data["reason"], entry.since < writers.trimmed_seq) == ("trimmed", True), entry
                position = entry.data["seq"]
        else:
            expected = next(event for event in in_room if event.seq > position)
            assert (entry.seq, entry.number) == (expected.seq, expected.number), (entry, expected)
            assert entry.replay == (entry.seq <= response_seq), (entry, response_seq)
            position = entry.seq
        # A new subscription begins anew; so does one that could not be resumed.
        begins = isinstance(entry, SubscribeResponse) and not entry.is_recovered
        handled = position if begins else max(handled, position)
    assert position >= in_room[-1].seq, f"{room}: the last event received is {position}, expected {in_room[-1].seq}"
