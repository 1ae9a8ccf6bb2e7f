"""Subscribing from a position: what was missed, exactly and in order, then what happens; or why that cannot be had."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from realtime.protocol.requests import MAX_SEQ
from tests.events.announcements import announce_by_the_log_alone
from tests.harness.client import Client, Message, connect
from tests.harness.fixtures import StartServer
from tests.harness.matchers import A_NUMBER, A_TIME, AN_EPOCH, a_response, an_error, an_event
from tests.harness.server import MahavishnuServer

Unique = Callable[[str], str]

# What the test process cannot: many events of one room, fast.
ANNOUNCE = """
from django.db import transaction
from django.utils import timezone
from realtime.events.receivers import announce_as_given

for first in range(0, count, in_one):
    with transaction.atomic():
        for number in range(first, min(first + in_one, count)):
            announce_as_given("test", data={"number": number}, rooms=(room,), timestamp=timezone.now())
"""


PRUNE = """
from django.conf import settings
from django.utils import timezone
from realtime.eventlog.retention import Retention, prune_events
prune_events(Retention.from_limits(settings.MAHAVISHNU_LIMITS), at=timezone.now())
"""


def announce(server: MahavishnuServer, room: str, count: int, *, in_one: int = 1000) -> None:
    server.services_driver.execute(ANNOUNCE, room=room, count=count, in_one=in_one)


def numbers(events: list[Message]) -> list[int]:
    return [event["data"]["number"] for event in events]


async def resume(client: Client, channel: str, **options: Any) -> dict[str, Any]:
    """Subscribe and return the answer's data, once it was seen that the whole answer is as it should be."""
    answer = await client.subscribe(channel, **options)
    data: dict[str, Any] = answer["data"]
    common = {"status": "subscribed", "channel": channel, "seq": A_NUMBER, "epoch": AN_EPOCH}
    assert answer == a_response("subscribe", {**data, **common}, answer["correlation_id"])
    return data


async def newest_seq(client: Client) -> int:
    """The log's position now; the welcome's may be half a second old."""
    seq: int = (await resume(client, "worker:nobody", snapshot=True))["seq"]
    return seq


@pytest.fixture
def room(unique: Unique) -> str:
    return f"workflow:{unique('wf')}"


async def test_what_was_missed_comes_first_and_in_order_then_what_happens(
    server_on_both: MahavishnuServer, room: str
) -> None:
    announce(server_on_both, room, 3)
    async with connect(server_on_both) as client:
        epoch, seq = client.welcome["data"]["epoch"], await newest_seq(client)
        live = await resume(client, room, since=0)
        assert live == {
            "status": "subscribed",
            "channel": room,
            "seq": live["seq"],
            "epoch": epoch,
            "recovered": True,
            "missed": 3,
        }
        replayed = await client.events(3)
        assert live["seq"] == seq
        announce(server_on_both, room, 2)
        followed = await client.events(2)
    assert replayed == [
        {**an_event("test", {"number": number}, room=room, replay=True), "seq": replayed[0]["seq"] + number}
        for number in range(3)
    ]
    assert replayed[-1]["seq"] <= live["seq"] < followed[0]["seq"]
    assert followed == [an_event("test", {"number": number}, room=room) for number in range(2)]


async def test_a_client_that_comes_back_misses_nothing_and_hears_nothing_twice(
    server_on_both: MahavishnuServer, room: str
) -> None:
    async with connect(server_on_both) as client:
        await client.subscribe(room)
        announce(server_on_both, room, 2)
        heard = await client.events(2)
    announce(server_on_both, room, 3)
    async with connect(server_on_both) as client:
        data = await resume(client, room, since=heard[-1]["seq"], epoch=client.welcome["data"]["epoch"])
        assert (data["recovered"], data["missed"]) == (True, 3)
        heard += await client.events(3)
        announce(server_on_both, room, 1)
        heard.append(await client.event())
    assert numbers(heard) == [0, 1, 0, 1, 2, 0]
    assert [event.get("replay") for event in heard] == [None, None, True, True, True, None]
    seqs = [event["seq"] for event in heard]
    assert seqs == sorted(set(seqs))


async def test_global_is_resumed_like_any_other_channel(server_on_both: MahavishnuServer, room: str) -> None:
    async with connect(server_on_both) as client:
        seq = await newest_seq(client)
        announce(server_on_both, room, 3)
        data = await resume(client, "global", since=seq)
        assert (data["recovered"], data["missed"]) == (True, 3)
        assert await client.events(3) == [
            an_event("test", {"number": number}, room="global", replay=True) for number in range(3)
        ]


async def test_whoever_missed_nothing_is_live_at_once(server_on_both: MahavishnuServer, room: str) -> None:
    announce(server_on_both, room, 1)
    async with connect(server_on_both) as client:
        seq = await newest_seq(client)
        data = await resume(client, room, since=seq)
        assert (data["recovered"], data["missed"], data["seq"]) == (True, 0, seq)
        announce(server_on_both, room, 1)
        assert await client.next() == an_event("test", {"number": 0}, room=room)


async def test_a_replay_of_many_chunks_is_complete_while_more_is_announced(
    server_on_both: MahavishnuServer, room: str
) -> None:
    """Two thousand missed, a thousand more as they are replayed, a few in a transaction at a time."""
    missed, meanwhile = 2000, 1000
    announce(server_on_both, room, missed)
    async with connect(server_on_both) as client:
        announcing = asyncio.create_task(asyncio.to_thread(announce, server_on_both, room, meanwhile, in_one=20))
        data = await resume(client, room, since=0)
        assert data["recovered"]
        assert missed <= data["missed"] <= missed + meanwhile
        events = await client.events(missed + meanwhile)
        await announcing
    assert numbers(events) == [*range(missed), *range(meanwhile)]
    assert [event["seq"] <= data["seq"] for event in events] == [event.get("replay", False) for event in events]
    assert sum(event.get("replay", False) for event in events) == data["missed"]


async def test_a_dozen_channels_asked_for_at_once_are_each_resumed(server: MahavishnuServer, unique: Unique) -> None:
    rooms = [f"workflow:{unique('wf')}" for _ in range(12)]
    for room in rooms:
        announce(server, room, 3)
    async with connect(server) as client:
        for room in rooms:
            await client.send(
                {"type": "request", "event": "subscribe", "data": {"channel": room, "since": 0}, "id": room}
            )
        messages = [await client.next() for _ in range(12 * 4)]
    for room in rooms:
        of_room = [message for message in messages if room in (message.get("correlation_id"), message.get("room"))]
        assert [message["type"] for message in of_room] == ["response", "event", "event", "event"]
        assert of_room[0]["data"]["missed"] == 3
        assert numbers(of_room[1:]) == [0, 1, 2]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"since": 0, "epoch": "another"}, "epoch"),
        ({"since": 0, "epoch": ""}, "epoch"),
        ({"since": MAX_SEQ}, "ahead"),
        # The log is asked for first: in another one no position means anything.
        ({"since": MAX_SEQ, "epoch": "another"}, "epoch"),
    ],
)
async def test_a_position_of_another_log_or_of_none_is_not_resumed(
    server_on_both: MahavishnuServer, room: str, options: dict[str, Any], reason: str
) -> None:
    announce(server_on_both, room, 1)
    async with connect(server_on_both) as client:
        data = await resume(client, room, **options)
        assert (data["recovered"], data["missed"], data["reason"]) == (False, 0, reason)
        announce(server_on_both, room, 1)
        event = await client.next()
    assert event == an_event("test", {"number": 0}, room=room)
    assert event["seq"] > data["seq"]


async def test_the_position_after_the_newest_is_ahead(server_on_both: MahavishnuServer, room: str) -> None:
    async with connect(server_on_both) as client:
        seq = await newest_seq(client)
        assert (await resume(client, room, since=seq))["recovered"] is True
        data = await resume(client, room, since=seq + 1)
        assert (data["recovered"], data["missed"], data["reason"], data["seq"]) == (False, 0, "ahead", seq)


@pytest.fixture(scope="module")
def small_server(start_shared_server: StartServer) -> Iterator[MahavishnuServer]:
    """A server of this module's own which replays ten events at most and prunes what is not among the last hundred."""
    server = start_shared_server(
        max_replay_events=10, max_log_events=100, min_log_age_seconds=0, log_prune_interval_seconds=3600
    )
    yield server
    server.close()


async def test_ten_events_are_replayed_where_ten_are_allowed_and_not_one_of_eleven(
    small_server: MahavishnuServer, room: str
) -> None:
    async with connect(small_server) as client:
        seq = await newest_seq(client)
        announce(small_server, room, 11)
        data = await resume(client, room, since=seq)
        assert (data["recovered"], data["missed"], data["reason"]) == (False, 0, "limit")
        data = await resume(client, room, since=seq + 1)
        assert (data["recovered"], data["missed"]) == (True, 10)
        assert numbers(await client.events(10)) == list(range(1, 11))


async def test_a_position_before_what_was_pruned_is_not_resumed(small_server: MahavishnuServer, room: str) -> None:
    announce(small_server, room, 150)
    small_server.services_driver.execute(PRUNE)
    async with connect(small_server) as client:
        kept_from = await newest_seq(client) - 100
        data = await resume(client, "pool:quiet", since=kept_from - 1)
        assert (data["recovered"], data["missed"], data["reason"]) == (False, 0, "trimmed")
        data = await resume(client, "pool:quiet", since=kept_from)
        assert (data["recovered"], data["missed"]) == (True, 0)


async def test_a_new_epoch_ends_what_was_promised_and_begins_anew(start_server: StartServer, room: str) -> None:
    server = start_server()
    async with connect(server) as client:
        old = client.welcome["data"]
        await client.subscribe(room)
        server.services_driver.execute("from realtime.eventlog.position import renew_epoch\nresult = renew_epoch()")
        assert (await client.next())["error_code"] == "EVENTS_TRIMMED"
        assert await client.wait_closed() == (1012, "EVENTS_TRIMMED")
    async with connect(server) as client:
        assert client.welcome["data"]["epoch"] != old["epoch"]
        data = await resume(client, room, since=old["seq"], epoch=old["epoch"])
        assert (data["recovered"], data["reason"]) == (False, "epoch")
        assert data["epoch"] == client.welcome["data"]["epoch"]


# --- Subscribing again -------------------------------------------------------------------------------------------


async def test_a_live_subscription_is_resumed_again_from_where_it_is_asked_to_be(
    server_on_both: MahavishnuServer, room: str
) -> None:
    async with connect(server_on_both) as client:
        await client.subscribe(room)
        announce(server_on_both, room, 4)
        live = await client.events(4)
        for first in (2, 0, 4):
            data = await resume(client, room, since=live[first - 1]["seq"] if first else live[0]["seq"] - 1)
            assert (data["recovered"], data["missed"]) == (True, 4 - first)
            replayed = await client.events(4 - first)
            assert replayed == [{**event, "replay": True} for event in live[first:]]
        announce(server_on_both, room, 1)
        assert await client.next() == an_event("test", {"number": 0}, room=room)
        await client.send({"type": "ping"})
        assert (await client.next())["type"] == "pong"


async def test_a_live_subscription_that_is_fed_all_the_time_is_resumed_without_a_gap(
    server_on_both: MahavishnuServer, room: str
) -> None:
    missed, meanwhile = 1000, 400
    async with connect(server_on_both) as client:
        await client.subscribe(room)
        announce(server_on_both, room, missed)
        announcing = asyncio.create_task(asyncio.to_thread(announce, server_on_both, room, meanwhile, in_one=5))
        while (await client.event())["data"]["number"] != missed - 1:
            pass
        data = await resume(client, room, since=0)
        live = [message for message in client.waiting() if message["event"] == "test"]
        again = await client.events(missed + meanwhile)
        await announcing
        await client.send({"type": "ping"})
        assert (await client.next())["type"] == "pong"
    assert all(event["seq"] <= data["seq"] for event in live)
    assert numbers(again) == [*range(missed), *range(meanwhile)]
    assert [event.get("replay", False) for event in again] == [
        position < data["missed"] for position in range(missed + meanwhile)
    ]


async def test_subscribing_again_without_a_position_changes_nothing(server: MahavishnuServer, room: str) -> None:
    announce(server, room, 2)
    async with connect(server) as client:
        await resume(client, room, since=0)
        answer = await client.subscribe(room)
        assert answer["data"] == {"status": "subscribed", "channel": room}
        assert numbers(await client.events(2)) == [0, 1]
        announce(server, room, 1)
        assert await client.next() == an_event("test", {"number": 0}, room=room)


async def test_unsubscribing_ends_a_resumed_subscription(server: MahavishnuServer, room: str) -> None:
    announce(server, room, 2)
    async with connect(server) as client:
        await resume(client, room, since=0)
        await client.unsubscribe(room)
        assert numbers(await client.events(2)) == [0, 1]
        announce(server, room, 1)
        await client.subscribe("global")
        announce(server, room, 1)
        assert (await client.next())["room"] == "global"


async def test_one_client_s_replay_is_nothing_to_another(server: MahavishnuServer, room: str) -> None:
    async with connect(server) as live, connect(server) as late:
        await live.subscribe(room)
        announce(server, room, 3)
        await resume(late, room, since=0)
        announce(server, room, 1)
        for client in (live, late):
            assert numbers(await client.events(4)) == [0, 1, 2, 0]


# --- Snapshots ---------------------------------------------------------------------------------------------------


async def test_a_workflow_s_snapshot_is_its_state_at_the_answered_position(
    server_on_both: MahavishnuServer, unique: Unique
) -> None:
    workflow_id, pool_id, worker_id = unique("wf"), unique("pool"), unique("worker")
    services = server_on_both.services
    services.create_pool(pool_id=pool_id)
    services.register_worker(worker_id=worker_id, pool_id=pool_id)
    services.create_workflow(
        workflow_id=workflow_id, adapter="python", prompt="Write code", stages=["one", "two"], pool_id=pool_id
    )
    services.start_workflow(workflow_id=workflow_id)
    services.start_stage(workflow_id=workflow_id, stage_name="one", worker_id=worker_id)
    services.complete_stage(workflow_id=workflow_id, stage_name="one", result={"duration_ms": 1500})
    async with connect(server_on_both) as client:
        data = await resume(client, f"workflow:{workflow_id}", snapshot=True)
        assert data["snapshot"] == {
            "workflow_id": workflow_id,
            "status": "running",
            "stages_completed": 1,
            "total_stages": 2,
            "pool_id": pool_id,
            "created_at": A_TIME,
            "started_at": A_TIME,
            "finished_at": None,
            "adapter": "python",
            "prompt": "Write code",
            "result": None,
            "error": "",
            "stages": [
                {
                    "stage_name": "one",
                    "status": "completed",
                    "worker_id": worker_id,
                    "duration_ms": 1500,
                    "error": "",
                },
                {"stage_name": "two", "status": "pending", "worker_id": None, "duration_ms": None, "error": ""},
            ],
        }
        assert set(data) == {"status", "channel", "seq", "epoch", "snapshot"}
        services.complete_workflow(workflow_id=workflow_id)
        assert (await client.next())["seq"] > data["seq"]


async def test_the_snapshots_of_a_pool_and_of_a_worker(server_on_both: MahavishnuServer, unique: Unique) -> None:
    pool_id, worker_id = unique("pool"), unique("worker")
    server_on_both.services.create_pool(pool_id=pool_id)
    server_on_both.services.register_worker(worker_id=worker_id, pool_id=pool_id)
    async with connect(server_on_both) as client:
        pool = (await resume(client, f"pool:{pool_id}", snapshot=True))["snapshot"]
        worker = (await resume(client, f"worker:{worker_id}", snapshot=True))["snapshot"]
    assert pool == {
        "pool_id": pool_id,
        "status": "active",
        "metrics": {
            "active_workers": 0,
            "idle_workers": 1,
            "queue_size": 0,
            "tasks_completed": 0,
            "tasks_failed": 0,
            "tasks_running": 0,
            "worker_count": 1,
            "error_workers": 0,
        },
        "workers": [{"worker_id": worker_id, "status": "idle"}],
    }
    assert worker == {"worker_id": worker_id, "status": "idle", "pool_id": pool_id}


async def test_the_snapshot_of_what_does_not_exist_is_null(server: MahavishnuServer, unique: Unique) -> None:
    async with connect(server) as client:
        for kind in ("workflow", "pool", "worker"):
            data = await resume(client, f"{kind}:{unique('nothing')}", snapshot=True)
            assert data["snapshot"] is None


async def test_the_snapshot_of_global_lists_what_is_unfinished(start_server: StartServer) -> None:
    server = start_server()
    server.services.create_pool(pool_id="p")
    for workflow_id in ("done", "running"):
        server.services.create_workflow(workflow_id=workflow_id, adapter="python", prompt="", stages=["only"])
        server.services.start_workflow(workflow_id=workflow_id)
    server.services.complete_workflow(workflow_id="done")
    async with connect(server) as client:
        snapshot = (await resume(client, "global", snapshot=True))["snapshot"]
    assert [workflow["workflow_id"] for workflow in snapshot["workflows"]] == ["running"]
    assert [pool["pool_id"] for pool in snapshot["pools"]] == ["p"]


async def test_a_snapshot_and_the_events_after_it_are_one_unbroken_story(
    server_on_both: MahavishnuServer, unique: Unique
) -> None:
    """While stages complete one after another, whoever subscribes finds each of them in the state or in an event."""
    workflow_id = unique("wf")
    names = [str(number) for number in range(60)]
    server_on_both.services.create_workflow(workflow_id=workflow_id, adapter="python", prompt="", stages=names)
    server_on_both.services.start_workflow(workflow_id=workflow_id)

    # The last ones wait for whoever subscribes, however long that takes.
    subscribed = threading.Semaphore(0)

    def complete() -> None:
        for name in names:
            if int(name) >= len(names) // 2:
                assert subscribed.acquire(timeout=30)
            server_on_both.services.complete_stage(workflow_id=workflow_id, stage_name=name)

    seen_in_the_middle = 0
    completing = asyncio.create_task(asyncio.to_thread(complete))
    while not completing.done():
        async with connect(server_on_both) as client:
            snapshot = (await resume(client, f"workflow:{workflow_id}", snapshot=True))["snapshot"]
            completed = [stage["stage_name"] for stage in snapshot["stages"] if stage["status"] == "completed"]
            assert snapshot["stages_completed"] == len(completed)
            assert completed == names[: len(completed)]
            if len(completed) < len(names):
                seen_in_the_middle += 1
                subscribed.release()
                assert (await client.next())["data"]["stage_name"] == names[len(completed)]
    await completing
    assert seen_in_the_middle > 1


async def test_a_snapshot_comes_with_what_was_missed(server: MahavishnuServer, room: str) -> None:
    announce(server, room, 2)
    async with connect(server) as client:
        data = await resume(client, room, since=0, snapshot=True)
        assert (data["recovered"], data["missed"], data["snapshot"]) == (True, 2, None)
        assert numbers(await client.events(2)) == [0, 1]


async def test_a_snapshot_larger_than_an_event_is_cut_like_one(server: MahavishnuServer, unique: Unique) -> None:
    workflow_id = unique("wf")
    server.services.create_workflow(
        workflow_id=workflow_id, adapter="python", prompt="é" * 100_000, stages=[str(number) for number in range(2000)]
    )
    async with connect(server) as client:
        answer = await client.subscribe(f"workflow:{workflow_id}", snapshot=True)
    snapshot = answer["data"]["snapshot"]
    assert snapshot["truncated"] is True
    assert (snapshot["workflow_id"], snapshot["total_stages"]) == (workflow_id, 2000)
    assert 0 < len(snapshot["prompt"]) < 33_000
    assert 0 < len(snapshot["stages"]) < 2000


# --- Large replays -----------------------------------------------------------------------------------------------


ANNOUNCE_LARGE = """
from django.db import transaction
from django.utils import timezone
from realtime.events.receivers import announce_as_given

with transaction.atomic():
    for number in range(400):
        data = {"number": number, "filling": "x" * 60_000}
        announce_as_given("test", data=data, rooms=(room,), timestamp=timezone.now())
"""


async def test_a_replay_larger_than_what_may_be_unsent_reaches_a_reader_that_takes_its_time(
    server: MahavishnuServer, room: str
) -> None:
    """Twenty-four megabytes: written at once they would make a slow reader of everyone."""
    server.services_driver.execute(ANNOUNCE_LARGE, room=room)
    # A receiver that takes nothing until it is asked to, with little room in between.
    async with connect(server, max_queue=1) as client:
        data = await resume(client, room, since=0)
        assert data["missed"] == 400
        await asyncio.sleep(0.5)
        assert numbers(await client.events(400)) == list(range(400))
        await client.send({"type": "ping"})
        assert (await client.next())["type"] == "pong"


async def test_a_replay_whose_events_are_pruned_under_it_ends_with_the_reason(
    start_server: StartServer, room: str
) -> None:
    server = start_server(max_log_events=100, min_log_age_seconds=0)
    async with connect(server) as other:
        await other.subscribe("workflow:compared")
        server.services_driver.execute(ANNOUNCE_LARGE, room=room)
        # Only by comparing itself with the log can the relay find this one: then it has seen all that will be pruned.
        announce_by_the_log_alone(server, "workflow:compared", 10)
        await other.event()
    async with connect(server, max_queue=1) as client:
        assert (await resume(client, room, since=0))["missed"] == 400
        # The rest of the replay waits until the client has taken what was read first.
        server.services_driver.execute(PRUNE)
        assert (await client.wait_closed()) == (1012, "EVENTS_TRIMMED")
        *replayed, last = client.waiting()
    assert last == an_error(
        "EVENTS_TRIMMED",
        "The event log was replaced or pruned: connect again and subscribe with `since`",
        retryable=True,
    )
    assert numbers(replayed) == list(range(200))
