"""Every event, caused by a service call in another process: complete, in each of its channels and in no other.

A client subscribes to every channel that might receive the event by mistake. After the change, a marker is announced in
all of these channels: the events of a channel before its marker are those of the change.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import pytest

from tests.events import engine_event_cases, run_event_cases  # noqa: F401 (they add their cases)
from tests.events.event_cases import CASES, Change, Expected, Resources, metrics
from tests.harness.client import Client, Message, connect
from tests.harness.matchers import A_NUMBER, an_event
from tests.harness.server import MahavishnuServer

Unique = Callable[[str], str]

Received = dict[str, list[Message]]

MARK = """
from django.utils import timezone
from realtime.events.receivers import announce_as_given
announce_as_given("marker", data={}, rooms=tuple(rooms), timestamp=timezone.now())
"""


@pytest.fixture
def resources(server_on_both: MahavishnuServer, unique: Unique) -> Resources:
    services = server_on_both.services
    resources = Resources(
        services, *(unique(prefix) for prefix in ("wf", "wf", "pool", "worker", "wf", "pool", "worker"))
    )
    for pool_id, worker_id in ((resources.pool, resources.worker), (resources.other_pool, resources.other_worker)):
        services.create_pool(pool_id=pool_id)
        services.register_worker(worker_id=worker_id, pool_id=pool_id)
    for workflow_id, pool_id in (
        (resources.workflow, resources.pool),
        (resources.pending, resources.pool),
        (resources.other_workflow, resources.other_pool),
    ):
        services.create_workflow(
            workflow_id=workflow_id, adapter="python", prompt="Write code", stages=["one", "two"], pool_id=pool_id
        )
    services.start_workflow(workflow_id=resources.workflow)
    return resources


async def receive_until_marked(client: Client, server: MahavishnuServer, channels: list[str]) -> Received:
    """Return the events of each channel, once all markers have arrived."""
    server.services_driver.execute(MARK, rooms=[channel for channel in channels if channel != "global"])
    received: Received = defaultdict(list)
    unmarked = set(channels)
    while unmarked:
        event = await client.next()
        if event["event"] == "marker":
            unmarked.remove(event["room"])
        else:
            assert event["room"] in unmarked, "an event arrived after the marker"
            received[event["room"]].append(event)
    return received


def assert_received(received: Received, expected: Expected) -> None:
    """Check that each channel has exactly its events: once, complete, identical and in order."""
    in_global = received["global"]
    for event in in_global:
        assert event["data"]["timestamp"] == event["timestamp"]
    assert in_global == [
        an_event(name, {**data, "timestamp": event["timestamp"]}, room="global", timestamp=event["timestamp"])
        for (name, data, _), event in zip(expected, in_global, strict=True)
    ]
    assert [event["seq"] for event in in_global] == sorted({event["seq"] for event in in_global})
    in_channels: Received = defaultdict(list)
    for (_, _, channels), event in zip(expected, in_global, strict=True):
        for channel in channels:
            in_channels[channel].append({**event, "room": channel})
    assert {channel: events for channel, events in received.items() if channel != "global"} == in_channels


@pytest.mark.parametrize("change", CASES.values(), ids=CASES)
async def test_change_reaches_exactly_the_channels_of_its_events(
    server_on_both: MahavishnuServer, resources: Resources, change: Change
) -> None:
    async with connect(server_on_both) as client:
        for channel in resources.channels:
            await client.subscribe(channel)
        expected = change(resources)
        received = await receive_until_marked(client, server_on_both, resources.channels)
    assert_received(received, expected)


async def test_subscription_made_before_a_resource_exists_receives_its_events(
    server_on_both: MahavishnuServer, unique: Unique
) -> None:
    workflow_id, pool_id, worker_id = unique("wf"), unique("pool"), unique("worker")
    channels = [f"workflow:{workflow_id}", f"pool:{pool_id}", f"worker:{worker_id}", f"pool:{worker_id}"]
    services = server_on_both.services
    async with connect(server_on_both) as client:
        for channel in channels:
            await client.subscribe(channel)
        services.create_workflow(workflow_id=workflow_id, adapter="python", prompt="", stages=["only"])
        services.create_pool(pool_id=pool_id)
        services.register_worker(worker_id=worker_id, pool_id=pool_id)
        received = await receive_until_marked(client, server_on_both, channels)
    assert {channel: [event["event"] for event in events] for channel, events in received.items()} == {
        f"workflow:{workflow_id}": ["workflow.created"],
        f"pool:{pool_id}": ["pool.created", "worker.added", "pool.status_changed"],
        f"worker:{worker_id}": ["worker.added"],
    }


async def test_events_of_one_transaction_arrive_together_and_in_order(
    server_on_both: MahavishnuServer, resources: Resources
) -> None:
    async with connect(server_on_both) as client:
        await client.subscribe(f"pool:{resources.pool}")
        server_on_both.services_driver.execute(
            """
from django.db import transaction
from orchestration import services
with transaction.atomic():
    for status in ("busy", "error", "idle", "busy"):
        services.change_worker_status(worker_id=worker, status=status)
""",
            worker=resources.worker,
        )
        events = await client.events(5)
    statuses = [event["data"]["status"] for event in events]
    assert statuses == ["busy", "error", "idle", "busy", metrics(active=1)]
    seqs = [event["seq"] for event in events]
    assert seqs == list(range(seqs[0], seqs[0] + 5))


async def test_large_result_is_truncated_in_the_event_and_stored_complete(
    server_on_both: MahavishnuServer, resources: Resources
) -> None:
    output = "é" * 100_000
    async with connect(server_on_both) as client:
        await client.subscribe(f"workflow:{resources.workflow}")
        fields = resources.services.complete_workflow(workflow_id=resources.workflow, result={"final_output": output})
        event = await client.next()
    assert fields["result"]["final_output"] == output
    truncated = event["data"].pop("result")
    assert event == an_event(
        "workflow.completed",
        {"workflow_id": resources.workflow, "name": "", "timestamp": event["timestamp"], "truncated": True},
        room=f"workflow:{resources.workflow}",
    )
    assert truncated == {"total_duration_ms": A_NUMBER, "final_output": truncated["final_output"]}
    assert truncated["final_output"].endswith("…")
    assert output.startswith(truncated["final_output"][:-1])
    assert 8_000 < len(truncated["final_output"]) < 33_000
