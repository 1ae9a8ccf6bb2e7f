"""Resuming a room from a pruned position: refused only if events of that room are gone."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from realtime.eventlog.append import NewEvent, append_events
from realtime.eventlog.epoch import renew_epoch
from realtime.eventlog.position import current_position
from realtime.eventlog.reader import PositionOutOfRange
from realtime.eventlog.retention import Retention, prune_events
from realtime.events.types import EVENT_TYPES
from realtime.limits import Limits
from realtime.models import EventRoom
from realtime.protocol.channels import CREATED_BY, RESOURCE_TYPES
from realtime.queries import resume
from realtime.queries.resume import ResumePoint, find_resume_point, read_chunk
from tests.harness.query_plans import collect_statistics, explain

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True)]

AT = datetime(2026, 2, 10, 20, 0, tzinfo=UTC)
ROOMS = ("workflow:a", "workflow:b", "pool:p", "worker:w")


@dataclass(frozen=True)
class Kept:
    """An event of one room, as the model keeps it for ever."""

    seq: int
    name: str
    known_previous_seq: int


@dataclass
class Model:
    """Every event that was ever appended, by room, and the position up to which they are pruned."""

    rooms: dict[str, list[Kept]] = field(default_factory=lambda: {room: [] for room in ROOMS})
    trimmed_seq: int = 0

    def append(self, *events: tuple[str, tuple[str, ...]]) -> list[int]:
        new = [NewEvent(name=name, timestamp=AT, data="{}", rooms=rooms) for name, rooms in events]
        with transaction.atomic():
            seqs = [delivery.event.seq for delivery in append_events(new) if delivery.room == "global"]
        for seq, (name, rooms) in zip(seqs, events, strict=True):
            for room in rooms:
                last = self.rooms[room][-1].seq if self.rooms[room] else 0
                known = last if last > self.trimmed_seq else self.trimmed_seq
                self.rooms[room].append(Kept(seq, name, known))
        return seqs

    def prune(self, *, keep: int) -> None:
        prune_events(Retention(max_events=keep, max_age=timedelta(days=1), min_age=timedelta(0)), at=AT)
        self.trimmed_seq = current_position().trimmed_seq

    def history(self, room: str, since: int) -> list[int] | None:
        """Return what a client has missed; None if it cannot get all of it."""
        missed = [event for event in self.rooms[room] if event.seq > since]
        kept = [event for event in missed if event.seq > self.trimmed_seq]
        if since < self.trimmed_seq:
            if not kept:
                return None
            begins = since == 0 and kept[0].name == CREATED_BY[room.partition(":")[0]]
            if not begins and kept[0].known_previous_seq > since:
                return None
            assert begins or missed == kept, "the model knows of an event that is pruned"
        return [event.seq for event in kept]


def resume_from(room: str, since: int) -> ResumePoint:
    return find_resume_point(room, since=since, epoch=None, with_snapshot=False, limits=Limits())


def replayed_by(point: ResumePoint, room: str, limits: Limits) -> list[int]:
    """Return the events of a whole replay, read chunk by chunk."""
    chunk, found = point.chunk, []
    while chunk is not None:
        found += [json.loads(message)["seq"] for part in chunk.parts for message in part.messages]
        is_last = chunk.through >= point.position.seq
        after, epoch = chunk.through, point.position.epoch
        chunk = (
            None if is_last else read_chunk(room, epoch=epoch, after=after, through=point.position.seq, limits=limits)
        )
    return found


@pytest.mark.parametrize("seed", range(4))
def test_resume_of_a_room_loses_nothing_and_is_refused_only_for_its_own_events(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume, "REPLAY_CHUNK_EVENTS", 2)
    chance, model, outcomes = random.Random(seed), Model(), set()
    first = current_position().seq
    model.trimmed_seq = current_position().trimmed_seq
    for _ in range(15):
        events = []
        for _ in range(chance.randint(1, 4)):
            about = chance.choice(ROOMS)
            # A resource may be removed and created again under the same id.
            created = chance.random() < 0.15
            others = () if created else tuple(room for room in ROOMS if room != about and chance.random() < 0.2)
            events.append((CREATED_BY[about.partition(":")[0]] if created else "test.event", (about, *others)))
        newest = model.append(*events)[-1]
        if chance.random() < 0.4:
            model.prune(keep=chance.randint(0, 12))
        for room in ROOMS:
            for since in (0, max(newest - chance.randint(0, 12), first), max(newest - chance.randint(5, 60), first)):
                point, expected = resume_from(room, since), model.history(room, since)
                assert point.reason == (None if expected is not None else "trimmed"), (room, since, expected)
                assert point.missed == len(expected or ())
                if expected is not None:
                    assert replayed_by(point, room, Limits()) == expected
                outcomes.add((since < model.trimmed_seq, point.reason))
    assert outcomes == {(False, None), (True, None), (True, "trimmed")}


def test_history_of_a_resource_outlives_the_pruning_of_older_events() -> None:
    model = Model()
    model.append(*[("test.event", ("pool:p",))] * 3)
    created, *_, last = model.append(("workflow.created", ("workflow:a",)), *[("test.event", ("workflow:a",))] * 3)
    model.prune(keep=4)
    assert (resume_from("workflow:a", 0).missed, resume_from("workflow:a", created).missed) == (4, 3)
    # A room of which nothing is left, and events of the resource itself.
    assert resume_from("pool:p", 0).reason == "trimmed"
    model.prune(keep=3)
    assert (resume_from("workflow:a", 0).reason, resume_from("workflow:a", last).reason) == ("trimmed", None)
    model.prune(keep=0)
    assert resume_from("workflow:a", created).reason == "trimmed"


def test_history_does_not_begin_with_a_test_event() -> None:
    model = Model()
    model.append(("workflow.created", ("workflow:a",)), ("test.event", ("workflow:a",)))
    model.prune(keep=0)
    test_event = NewEvent(name="workflow.created", timestamp=AT, data='{"test": true}', rooms=("workflow:a",))
    with transaction.atomic():
        append_events([test_event])
    assert resume_from("workflow:a", 0).reason == "trimmed"


def test_quiet_room_resumes_from_a_position_that_is_pruned() -> None:
    model = Model()
    (seen,) = model.append(("test.event", ("pool:p",)))
    model.append(*[("test.event", ("workflow:a",))] * 5)
    model.append(("test.event", ("pool:p",)))
    model.prune(keep=2)
    assert seen < model.trimmed_seq
    assert (resume_from("pool:p", seen).missed, resume_from("pool:p", seen - 1).reason) == (1, "trimmed")
    assert resume_from("global", seen).reason == "trimmed"


def test_resource_created_again_does_not_hide_what_the_earlier_one_did() -> None:
    model = Model()
    seen, _ = model.append(*[("test.event", ("pool:p",))] * 2)
    model.prune(keep=0)
    model.append(("pool.created", ("pool:p",)), ("test.event", ()))
    model.prune(keep=1)
    model.append(("pool.created", ("pool:p",)))
    assert (resume_from("pool:p", seen).reason, resume_from("pool:p", 0).missed) == ("trimmed", 1)


def test_row_of_an_older_version_does_not_prove_that_nothing_was_pruned() -> None:
    model = Model()
    seen, *_ = model.append(*[("test.event", ("pool:p",))] * 2, ("test.event", ("workflow:a",)))
    model.append(("test.event", ("pool:p",)), ("workflow.created", ("workflow:b",)))
    EventRoom.objects.update(previous_seq=None)
    model.prune(keep=2)
    assert resume_from("pool:p", seen + 1).reason == "trimmed"
    # The event that creates a resource needs no proof.
    assert resume_from("workflow:b", 0).missed == 1


def test_rows_of_a_replaced_log_are_not_replayed() -> None:
    model = Model()
    seen, *_ = model.append(*[("test.event", ("pool:p",))] * 2)
    renew_epoch()
    model.append(("test.event", ("pool:p",)))
    assert resume_from("pool:p", seen).reason == "trimmed"


def test_replay_continues_past_the_pruning_of_other_rooms_and_stops_at_that_of_its_room() -> None:
    model = Model()
    seqs = model.append(*[("test.event", ("pool:p",))] * 3, *[("test.event", ("workflow:a",))] * 5)
    model.append(*[("test.event", ("pool:p",))] * 2)
    position = current_position()
    read = partial(read_chunk, epoch=position.epoch, through=position.seq, limits=Limits())
    model.prune(keep=3)
    assert read("pool:p", after=seqs[2]).event_count == 2
    with pytest.raises(PositionOutOfRange):
        read("pool:p", after=seqs[1])
    with pytest.raises(PositionOutOfRange):
        read("workflow:a", after=seqs[5])


def test_check_of_a_trimmed_room_takes_one_index_lookup() -> None:
    model = Model()
    model.append(*(("test.event", ("pool:p" if number % 20 else "workflow:a",)) for number in range(600)))
    model.prune(keep=400)
    collect_statistics()
    with CaptureQueriesContext(connection) as queries:
        resume_from("workflow:a", 1)
    (lookup,) = [query["sql"] for query in queries if "previous_seq" in query["sql"]]
    with transaction.atomic():
        plan = explain(lookup)
    assert "realtime_eventroom_pkey" in plan or "sqlite_autoindex_realtime_eventroom_1 (room=? AND seq>?)" in plan, plan


def test_every_resource_type_has_the_event_that_creates_it() -> None:
    assert {name: EVENT_TYPES[name].rooms_from[0] for name in CREATED_BY.values()} == {
        name: kind for kind, name in CREATED_BY.items()
    }
    assert tuple(CREATED_BY) == RESOURCE_TYPES
