"""Successful requests: their responses, correlation ids, order, and the events that follow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.harness.client import Client, Message, connect
from tests.harness.health import read_health
from tests.harness.matchers import a_pong, a_response, an_event
from tests.harness.server import MahavishnuServer
from tests.harness.waiting import eventually

Unique = Callable[[str], str]


def subscribed(channel: str) -> dict[str, str]:
    return {"channel": channel, "status": "subscribed"}


def unsubscribed(channel: str) -> dict[str, str]:
    return {"channel": channel, "status": "unsubscribed"}


def start_workflow(server: MahavishnuServer, workflow_id: str, *stages: str) -> None:
    server.services.create_workflow(
        workflow_id=workflow_id, adapter="python", prompt="Write code", stages=list(stages or ("only",))
    )
    server.services.start_workflow(workflow_id=workflow_id)


async def request(client: Client, event: str, **data: Any) -> Message:
    """Send a request, check the whole response, and return its data."""
    answer = await client.request(event, **data)
    assert answer == a_response(event, answer["data"], answer["correlation_id"])
    data_received: Message = answer["data"]
    return data_received


async def test_get_workflow_status_follows_every_change(server_on_both: MahavishnuServer, unique: Unique) -> None:
    workflow_id = unique("wf")
    services = server_on_both.services
    seen = []
    async with connect(server_on_both) as client:

        async def record_status() -> None:
            answer = await request(client, "get_workflow_status", workflow_id=workflow_id)
            assert answer.pop("workflow_id") == workflow_id
            seen.append(tuple(answer.items()))

        services.create_workflow(workflow_id=workflow_id, adapter="python", prompt="", stages=["one", "two"])
        await record_status()
        services.start_workflow(workflow_id=workflow_id)
        await record_status()
        services.complete_stage(workflow_id=workflow_id, stage_name="one")
        await record_status()
        services.fail_workflow(workflow_id=workflow_id, error="No")
        await record_status()
    assert seen == [
        (("status", status), ("stages_completed", completed), ("total_stages", 2))
        for status, completed in [("pending", 0), ("running", 0), ("running", 1), ("failed", 1)]
    ]


async def test_get_pool_status_lists_the_workers_in_order(server_on_both: MahavishnuServer, unique: Unique) -> None:
    pool_id, other_id = unique("pool"), unique("pool")
    workers = sorted(unique("worker") for _ in range(3))
    services = server_on_both.services
    async with connect(server_on_both) as client:
        services.create_pool(pool_id=pool_id)
        services.create_pool(pool_id=other_id)
        services.register_worker(worker_id=unique("worker"), pool_id=other_id)
        empty = await request(client, "get_pool_status", pool_id=pool_id)
        for worker_id in reversed(workers):
            services.register_worker(worker_id=worker_id, pool_id=pool_id)
        full = await request(client, "get_pool_status", pool_id=pool_id)
        services.remove_worker(worker_id=workers[1])
        services.drain_pool(pool_id=pool_id)
        draining = await request(client, "get_pool_status", pool_id=pool_id)
        services.close_pool(pool_id=pool_id)
        closed = await request(client, "get_pool_status", pool_id=pool_id)
    remaining = [workers[0], workers[2]]
    assert empty == {"pool_id": pool_id, "status": "active", "workers": []}
    assert full == {"pool_id": pool_id, "status": "active", "workers": workers}
    assert draining == {"pool_id": pool_id, "status": "draining", "workers": remaining}
    assert closed == {"pool_id": pool_id, "status": "closed", "workers": remaining}


@pytest.mark.parametrize(
    ("ids", "correlation_id"),
    [
        ({}, None),
        ({"id": "a"}, "a"),
        ({"correlation_id": "b"}, "b"),
        ({"id": "a", "correlation_id": "b"}, "a"),
        ({"id": None, "correlation_id": "b"}, "b"),
        ({"id": ""}, ""),
        ({"id": "é\U0001f600\n" * 100}, "é\U0001f600\n" * 100),
    ],
)
async def test_answer_has_the_id_of_the_request_as_correlation_id(
    server: MahavishnuServer, ids: dict[str, str | None], correlation_id: str | None
) -> None:
    async with connect(server) as client:
        await client.send({"type": "request", "event": "unsubscribe", "data": {"channel": "global"}, **ids})
        assert await client.next() == a_response("unsubscribe", unsubscribed("global"), correlation_id)
        await client.send({"type": "ping", **ids})
        assert await client.next() == a_pong(correlation_id)


async def test_websocket_ping_is_answered(server: MahavishnuServer) -> None:
    async with connect(server) as client:
        pong = await client.connection.ping(b"payload")
        async with asyncio.timeout(60):
            assert await pong >= 0


async def test_second_subscribe_is_answered_and_delivers_events_once(server: MahavishnuServer, unique: Unique) -> None:
    workflow_id = unique("wf")
    channel = f"workflow:{workflow_id}"
    async with connect(server) as client:
        assert await request(client, "subscribe", channel=channel) == subscribed(channel)
        assert await request(client, "subscribe", channel=channel) == subscribed(channel)
        start_workflow(server, workflow_id)
        server.services.complete_workflow(workflow_id=workflow_id)
        names = [event["event"] for event in await client.events(3)]
        assert names == ["workflow.created", "workflow.started", "workflow.completed"]
        assert await request(client, "unsubscribe", channel=channel) == unsubscribed(channel)
        assert client.waiting() == []


async def test_one_unsubscribe_undoes_several_subscribes(server: MahavishnuServer, unique: Unique) -> None:
    pool_id = unique("pool")
    async with connect(server) as client:
        await client.subscribe(f"pool:{pool_id}")
        await client.subscribe(f"pool:{pool_id}")
        assert await request(client, "unsubscribe", channel=f"pool:{pool_id}") == unsubscribed(f"pool:{pool_id}")
        await client.subscribe("global")
        server.services.create_pool(pool_id=pool_id)
        # The room of the event would come before `global`.
        assert [event["room"] for event in [await client.next()]] == ["global"]


async def test_unsubscribe_without_a_subscription_is_answered(server: MahavishnuServer, unique: Unique) -> None:
    channel = f"pool:{unique('pool')}"
    async with connect(server) as client:
        assert await request(client, "unsubscribe", channel=channel) == unsubscribed(channel)
        assert await request(client, "unsubscribe", channel=channel) == unsubscribed(channel)


async def test_unsubscribed_channel_delivers_nothing_until_resubscribed(
    server: MahavishnuServer, unique: Unique
) -> None:
    pools = [unique("pool") for _ in range(3)]
    async with connect(server) as client:
        await client.subscribe("global")
        server.services.create_pool(pool_id=pools[0])
        assert (await client.next())["data"]["pool_id"] == pools[0]
        await client.unsubscribe("global")
        server.services.create_pool(pool_id=pools[1])
        await client.subscribe("global")
        server.services.create_pool(pool_id=pools[2])
        assert (await client.next())["data"]["pool_id"] == pools[2]


async def test_event_in_two_channels_has_one_id_and_seq(server: MahavishnuServer, unique: Unique) -> None:
    pool_id = unique("pool")
    async with connect(server) as client:
        await client.subscribe(f"pool:{pool_id}")
        await client.subscribe("global")
        server.services.create_pool(pool_id=pool_id)
        events = await client.events(2)
    first = events[0]
    data = {"pool_id": pool_id, "timestamp": first["timestamp"]}
    assert sorted(events, key=lambda event: event["room"]) == [
        {**an_event("pool.created", data, room=room), "id": first["id"], "seq": first["seq"]}
        for room in ("global", f"pool:{pool_id}")
    ]


async def test_event_form_of_subscribe_is_answered_like_the_request(server: MahavishnuServer, unique: Unique) -> None:
    pools = [unique("pool"), unique("pool")]
    channel = f"pool:{pools[0]}"
    async with connect(server) as client:
        await client.send({"type": "event", "event": "subscribe", "data": {"room": channel}, "id": "a"})
        assert await client.next() == a_response("subscribe", subscribed(channel), "a")
        server.services.create_pool(pool_id=pools[0])
        assert (await client.next())["event"] == "pool.created"
        await client.send({"type": "event", "event": "unsubscribe", "data": {"room": channel}, "id": "b"})
        assert await client.next() == a_response("unsubscribe", unsubscribed(channel), "b")
        await client.subscribe("global")
        server.services.drain_pool(pool_id=pools[0])
        # The room of the event would come before `global`.
        assert (await client.next())["room"] == "global"


async def test_subscribes_and_unsubscribes_take_effect_in_order(server: MahavishnuServer, unique: Unique) -> None:
    channel = f"pool:{unique('pool')}"
    async with connect(server) as client:
        for number in range(25):
            for event in ("subscribe", "unsubscribe"):
                await client.send(
                    {"type": "request", "event": event, "data": {"channel": channel}, "id": f"{event}{number}"}
                )
        answers = [await client.next() for _ in range(50)]
        assert answers == [
            a_response(event, data, f"{event}{number}")
            for number in range(25)
            for event, data in (("subscribe", subscribed(channel)), ("unsubscribe", unsubscribed(channel)))
        ]
        await client.subscribe("global")
        server.services.create_pool(pool_id=channel.removeprefix("pool:"))
        # The room of the event would come before `global`.
        assert (await client.next())["room"] == "global"


async def test_query_is_answered_after_the_subscribes_sent_before_it(server: MahavishnuServer, unique: Unique) -> None:
    """Otherwise a change between the two would be neither in the status nor in an event."""
    workflows = [unique("wf") for _ in range(20)]
    start_workflow(server, workflows[-1])
    status = {"workflow_id": workflows[-1]}
    async with connect(server) as client:
        for workflow_id in workflows:
            await client.send({"type": "request", "event": "subscribe", "data": {"channel": f"workflow:{workflow_id}"}})
        await client.send({"type": "request", "event": "get_workflow_status", "data": status, "id": "status"})
        answers = [await client.next() for _ in range(21)]
    assert answers == [
        *(a_response("subscribe", subscribed(f"workflow:{workflow_id}")) for workflow_id in workflows),
        a_response(
            "get_workflow_status",
            {**status, "status": "running", "stages_completed": 0, "total_stages": 1},
            "status",
        ),
    ]


async def test_hundred_concurrent_queries_are_each_answered(server: MahavishnuServer, unique: Unique) -> None:
    workflow_id = unique("wf")
    start_workflow(server, workflow_id)
    data = {"workflow_id": workflow_id, "status": "running", "stages_completed": 0, "total_stages": 1}
    async with connect(server) as client:
        for number in range(100):
            await client.send(
                {
                    "type": "request",
                    "event": "get_workflow_status",
                    "data": {"workflow_id": workflow_id},
                    "id": str(number),
                }
            )
        answers = [await client.next() for _ in range(100)]
    assert sorted(answers, key=lambda answer: int(answer["correlation_id"])) == [
        a_response("get_workflow_status", data, str(number)) for number in range(100)
    ]


async def test_disconnect_during_requests_leaves_no_subscription(server: MahavishnuServer, unique: Unique) -> None:
    log_before = server.log_text()
    channels = [f"pool:{unique('pool')}" for _ in range(40)]
    for abrupt in (False, True):
        async with connect(server) as leaving:
            for channel in channels:
                await leaving.send(
                    {
                        "type": "request",
                        "event": "subscribe",
                        "data": {"channel": channel, "since": 0, "snapshot": True},
                    }
                )
            if abrupt:
                leaving.connection.transport.abort()
    await eventually(lambda: room_count(server) == 0, within_seconds=40, what="the end of every subscription")
    assert "Traceback" not in server.log_text().removeprefix(log_before)


def room_count(server: MahavishnuServer) -> int:
    count: int = read_health(server)[1]["rooms"]
    return count
