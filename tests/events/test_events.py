"""Every event, from a service called in another process: whole, in each of its channels and in no other.

A client subscribes to every channel that an event could be mistaken to belong to. After the change, one marker is
announced in all of those channels: what a channel brought before its marker is all that the change caused there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from realtime.events.types import EVENT_TYPES
from tests.harness.client import Client, Message, connect
from tests.harness.matchers import A_NUMBER, an_event, between
from tests.harness.server import MahavishnuServer
from tests.harness.services import ServiceCallError, Services

Unique = Callable[[str], str]


@dataclass(frozen=True)
class World:
    """A running workflow of two stages and a pending one, in a pool with one worker; and others of the same kind."""

    services: Services
    workflow: str
    pending: str
    pool: str
    worker: str
    other_workflow: str
    other_pool: str
    other_worker: str

    @property
    def channels(self) -> list[str]:
        ids = (self.workflow, self.pending, self.pool, self.worker)
        others = (self.other_workflow, self.other_pool, self.other_worker)
        return ["global", *(f"{kind}:{id}" for kind in ("workflow", "pool", "worker") for id in (*ids, *others))]


@pytest.fixture
def world(server_on_both: MahavishnuServer, unique: Unique) -> World:
    services = server_on_both.services
    world = World(services, *(unique(prefix) for prefix in ("wf", "wf", "pool", "worker", "wf", "pool", "worker")))
    for pool_id, worker_id in ((world.pool, world.worker), (world.other_pool, world.other_worker)):
        services.create_pool(pool_id=pool_id)
        services.register_worker(worker_id=worker_id, pool_id=pool_id)
    for workflow_id, pool_id in (
        (world.workflow, world.pool),
        (world.pending, world.pool),
        (world.other_workflow, world.other_pool),
    ):
        services.create_workflow(
            workflow_id=workflow_id, adapter="python", prompt="Write code", stages=["one", "two"], pool_id=pool_id
        )
    services.start_workflow(workflow_id=world.workflow)
    return world


def metrics(
    *,
    active: int = 0,
    idle: int = 0,
    queue: int = 0,
    completed: int = 0,
    failed: int = 0,
    running: int = 0,
    count: int = 1,
    error: int = 0,
) -> dict[str, int]:
    return {
        "active_workers": active,
        "idle_workers": idle,
        "queue_size": queue,
        "tasks_completed": completed,
        "tasks_failed": failed,
        "tasks_running": running,
        "worker_count": count,
        "error_workers": error,
    }


Heard = dict[str, list[Message]]
Expected = list[tuple[str, dict[str, Any], list[str]]]
"""Events in their order: name, data without its timestamp, channels besides `global`."""

MARK = """
from django.utils import timezone
from realtime.events.receivers import announce_as_given
announce_as_given("marker", data={}, rooms=tuple(rooms), timestamp=timezone.now())
"""


async def heard_until_marked(client: Client, server: MahavishnuServer, channels: list[str]) -> Heard:
    """What each channel brought, once every one of them has brought its marker."""
    server.services_driver.execute(MARK, rooms=[channel for channel in channels if channel != "global"])
    heard: Heard = defaultdict(list)
    unmarked = set(channels)
    while unmarked:
        event = await client.next()
        if event["event"] == "marker":
            unmarked.remove(event["room"])
        else:
            assert event["room"] in unmarked, "an event after a later one"
            heard[event["room"]].append(event)
    return heard


def check(heard: Heard, expected: Expected) -> None:
    """Each event is there once in each of its channels, the same in all of them, whole, in order, and nothing else."""
    everywhere = heard["global"]
    for event in everywhere:
        assert event["data"]["timestamp"] == event["timestamp"]
    assert everywhere == [
        an_event(name, {**data, "timestamp": event["timestamp"]}, room="global", timestamp=event["timestamp"])
        for (name, data, _), event in zip(expected, everywhere, strict=True)
    ]
    assert [event["seq"] for event in everywhere] == sorted({event["seq"] for event in everywhere})
    of_channels: Heard = defaultdict(list)
    for (_, _, channels), event in zip(expected, everywhere, strict=True):
        for channel in channels:
            of_channels[channel].append({**event, "room": channel})
    assert {channel: events for channel, events in heard.items() if channel != "global"} == of_channels


Change = Callable[[World], Expected]
CHANGES: dict[str, Change] = {}
CAUSED: set[str] = set()


def case(name: str, *causes: str) -> Callable[[Change], Change]:
    """Name a change and the kinds of event it causes; the function carries it out and says what is expected."""

    def register(function: Change) -> Change:
        def change(world: World) -> Expected:
            expected = function(world)
            assert {event for event, _, _ in expected} == set(causes)
            return expected

        CHANGES[name] = change
        CAUSED.update(causes)
        return change

    return register


def of_workflow(world: World, name: str, **data: Any) -> tuple[str, dict[str, Any], list[str]]:
    return name, {"workflow_id": world.workflow, **data}, [f"workflow:{world.workflow}"]


def of_pool(world: World, name: str) -> tuple[str, dict[str, Any], list[str]]:
    return name, {"pool_id": world.pool}, [f"pool:{world.pool}"]


def pool_metrics(world: World, **counted: int) -> tuple[str, dict[str, Any], list[str]]:
    return "pool.status_changed", {"pool_id": world.pool, "status": metrics(**counted)}, [f"pool:{world.pool}"]


def of_worker(world: World, name: str, **data: Any) -> tuple[str, dict[str, Any], list[str]]:
    data = {"worker_id": world.worker, "pool_id": world.pool, **data}
    return name, data, [f"worker:{world.worker}", f"pool:{world.pool}"]


@case("a workflow is created", "workflow.created")
def create_workflow(world: World) -> Expected:
    world.services.create_workflow(
        workflow_id=f"{world.workflow}.new", adapter="llamaindex", prompt="Write é", stages=["a", "b", "c"]
    )
    data = {
        "workflow_id": f"{world.workflow}.new",
        "adapter": "llamaindex",
        "prompt": "Write é",
        "total_stages": 3,
    }
    return [("workflow.created", data, [])]


@case("a workflow starts", "workflow.started")
def start_workflow(world: World) -> Expected:
    world.services.start_workflow(workflow_id=world.pending)
    data = {"workflow_id": world.pending, "adapter": "python", "prompt": "Write code"}
    return [("workflow.started", data, [f"workflow:{world.pending}"])]


@case("a workflow completes", "workflow.completed")
def complete_workflow(world: World) -> Expected:
    result = {"final_output": "Code generated successfully", "total_duration_ms": 5000}
    world.services.complete_workflow(workflow_id=world.workflow, result=result)
    return [of_workflow(world, "workflow.completed", result=result)]


@case("a workflow completes and says nothing of its duration", "workflow.completed")
def complete_workflow_without_a_result(world: World) -> Expected:
    world.services.complete_workflow(workflow_id=world.workflow)
    return [of_workflow(world, "workflow.completed", result={"total_duration_ms": between(0, 60_000)})]


@case("a workflow fails", "workflow.failed")
def fail_workflow(world: World) -> Expected:
    world.services.fail_workflow(workflow_id=world.workflow, error="Out of memory")
    return [of_workflow(world, "workflow.failed", error="Out of memory", status="failed")]


@case("a workflow times out", "workflow.failed")
def time_out_workflow(world: World) -> Expected:
    world.services.time_out_workflow(workflow_id=world.workflow)
    return [of_workflow(world, "workflow.failed", error="Execution timeout", status="timeout")]


@case("a workflow is cancelled", "workflow.cancelled")
def cancel_workflow(world: World) -> Expected:
    world.services.cancel_workflow(workflow_id=world.workflow, reason="Not needed")
    return [of_workflow(world, "workflow.cancelled", reason="Not needed")]


@case("a workflow is cancelled while a stage of it is queued", "workflow.cancelled", "pool.status_changed")
def cancel_workflow_with_a_queued_stage(world: World) -> Expected:
    world.services.queue_stage(workflow_id=world.workflow, stage_name="one")
    world.services.cancel_workflow(workflow_id=world.workflow)
    return [
        pool_metrics(world, idle=1, queue=1),
        of_workflow(world, "workflow.cancelled", reason=""),
        pool_metrics(world, idle=1, queue=0),
    ]


@case("a stage starts on a worker", "workflow.stage_started", "pool.status_changed")
def start_stage(world: World) -> Expected:
    world.services.start_stage(workflow_id=world.workflow, stage_name="one", worker_id=world.worker)
    return [
        of_workflow(world, "workflow.stage_started", stage_name="one", worker_id=world.worker),
        pool_metrics(world, idle=1, running=1),
    ]


@case("a stage starts on nobody knows which worker", "workflow.stage_started", "pool.status_changed")
def start_stage_anywhere(world: World) -> Expected:
    world.services.start_stage(workflow_id=world.workflow, stage_name="two")
    return [
        of_workflow(world, "workflow.stage_started", stage_name="two", worker_id=None),
        pool_metrics(world, idle=1, running=1),
    ]


@case("a stage completes", "workflow.stage_completed", "pool.status_changed")
def complete_stage(world: World) -> Expected:
    result = {"output": "Success", "duration_ms": 1500}
    world.services.complete_stage(workflow_id=world.workflow, stage_name="one", result=result)
    return [
        of_workflow(world, "workflow.stage_completed", stage_name="one", result=result),
        pool_metrics(world, idle=1, completed=1),
    ]


@case("a stage fails", "workflow.stage_failed", "pool.status_changed")
def fail_stage(world: World) -> Expected:
    world.services.fail_stage(workflow_id=world.workflow, stage_name="one", error="No")
    return [
        of_workflow(world, "workflow.stage_failed", stage_name="one", error="No"),
        pool_metrics(world, idle=1, failed=1),
    ]


SPEAK = """
from datetime import UTC, datetime
from django.db import transaction
from orchestration import services
from orchestration.services import attempts, row_locks
stage_id = services.start_stage(workflow_id=workflow, stage_name="one", worker_id=worker).pk
services.report_message(stage_id, 1, message="Good morning")
services.report_progress(stage_id, 1, progress=0.5, message="Half way")
with transaction.atomic():
    stage = row_locks.lock_stage_by_id(stage_id)
    attempts.record_failure(stage, reason="lost", error="The worker was lost", at=datetime.now(UTC))
"""


@case(
    "a running stage speaks, and is lost with its worker",
    "workflow.stage_started",
    "workflow.stage_log",
    "workflow.stage_progress",
    "workflow.stage_retrying",
    "pool.status_changed",
)
def speak(world: World) -> Expected:
    world.services._driver.execute(SPEAK, workflow=world.workflow, worker=world.worker)
    lost = {"attempt": 1, "reason": "lost", "error": "The worker was lost", "retry_at": None}
    return [
        of_workflow(world, "workflow.stage_started", stage_name="one", worker_id=world.worker),
        pool_metrics(world, idle=1, running=1),
        of_workflow(world, "workflow.stage_log", stage_name="one", message="Good morning"),
        of_workflow(world, "workflow.stage_progress", stage_name="one", progress=0.5, message="Half way"),
        of_workflow(world, "workflow.stage_retrying", stage_name="one", **lost),
        pool_metrics(world, idle=1, queue=1),
    ]


@case("a stage is queued", "pool.status_changed")
def queue_stage(world: World) -> Expected:
    world.services.queue_stage(workflow_id=world.workflow, stage_name="two")
    return [pool_metrics(world, idle=1, queue=1)]


@case("a stage is skipped, which nobody is told")
def skip_stage(world: World) -> Expected:
    world.services.skip_stage(workflow_id=world.workflow, stage_name="one")
    return []


@case("a worker is registered", "worker.added", "pool.status_changed")
def register_worker(world: World) -> Expected:
    worker_id = f"{world.worker}.new"
    world.services.register_worker(worker_id=worker_id, pool_id=world.pool)
    data = {"worker_id": worker_id, "status": "idle", "pool_id": world.pool}
    return [("worker.added", data, [f"pool:{world.pool}"]), pool_metrics(world, idle=2, count=2)]


@case("a worker takes every status", "worker.status_changed", "pool.status_changed")
def change_worker_status(world: World) -> Expected:
    counts = {"busy": {"active": 1}, "error": {"error": 1}, "offline": {}, "idle": {"idle": 1}}
    expected = []
    for status, counted in counts.items():
        world.services.change_worker_status(worker_id=world.worker, status=status)
        expected += [of_worker(world, "worker.status_changed", status=status), pool_metrics(world, **counted)]
    return expected


@case("a worker is removed", "worker.removed", "pool.status_changed")
def remove_worker(world: World) -> Expected:
    world.services.remove_worker(worker_id=world.worker)
    return [of_worker(world, "worker.removed"), pool_metrics(world, count=0)]


@case("a pool is created", "pool.created")
def create_pool(world: World) -> Expected:
    pool_id = f"{world.pool}.new"
    world.services.create_pool(pool_id=pool_id)
    return [("pool.created", {"pool_id": pool_id}, [])]


@case("a pool is drained, reopened, then closed", "pool.drained", "pool.reopened", "pool.closed")
def drain_reopen_and_close_pool(world: World) -> Expected:
    world.services.drain_pool(pool_id=world.pool)
    world.services.reopen_pool(pool_id=world.pool)
    world.services.close_pool(pool_id=world.pool)
    return [of_pool(world, "pool.drained"), of_pool(world, "pool.reopened"), of_pool(world, "pool.closed")]


@case("a change is refused")
def refuse(world: World) -> Expected:
    with pytest.raises(ServiceCallError) as refusal:
        world.services.start_workflow(workflow_id=world.workflow)
    assert refusal.value.class_name == "IllegalTransition"
    return []


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_a_change_is_heard_where_it_belongs_and_nowhere_else(
    server_on_both: MahavishnuServer, world: World, change: Change
) -> None:
    async with connect(server_on_both) as client:
        for channel in world.channels:
            await client.subscribe(channel)
        expected = change(world)
        heard = await heard_until_marked(client, server_on_both, world.channels)
    check(heard, expected)


async def test_what_is_new_is_heard_by_whoever_subscribed_before_it_was(
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
        heard = await heard_until_marked(client, server_on_both, channels)
    assert {channel: [event["event"] for event in events] for channel, events in heard.items()} == {
        f"workflow:{workflow_id}": ["workflow.created"],
        f"pool:{pool_id}": ["pool.created", "worker.added", "pool.status_changed"],
        f"worker:{worker_id}": ["worker.added"],
    }


async def test_many_changes_of_one_transaction_are_heard_together_and_in_order(
    server_on_both: MahavishnuServer, world: World
) -> None:
    async with connect(server_on_both) as client:
        await client.subscribe(f"pool:{world.pool}")
        server_on_both.services_driver.execute(
            """
from django.db import transaction
from orchestration import services
with transaction.atomic():
    for status in ("busy", "error", "idle", "busy"):
        services.change_worker_status(worker_id=worker, status=status)
""",
            worker=world.worker,
        )
        events = await client.events(5)
    statuses = [event["data"]["status"] for event in events]
    assert statuses == ["busy", "error", "idle", "busy", metrics(active=1)]
    seqs = [event["seq"] for event in events]
    assert seqs == list(range(seqs[0], seqs[0] + 5))


async def test_a_result_larger_than_an_event_is_cut_in_the_event_and_stored_whole(
    server_on_both: MahavishnuServer, world: World
) -> None:
    output = "é" * 100_000
    async with connect(server_on_both) as client:
        await client.subscribe(f"workflow:{world.workflow}")
        fields = world.services.complete_workflow(workflow_id=world.workflow, result={"final_output": output})
        event = await client.next()
    assert fields["result"]["final_output"] == output
    cut = event["data"].pop("result")
    assert event == an_event(
        "workflow.completed",
        {"workflow_id": world.workflow, "timestamp": event["timestamp"], "truncated": True},
        room=f"workflow:{world.workflow}",
    )
    assert cut == {"total_duration_ms": A_NUMBER, "final_output": cut["final_output"]}
    assert cut["final_output"].endswith("…")
    assert output.startswith(cut["final_output"][:-1])
    assert 8_000 < len(cut["final_output"]) < 33_000


def test_every_event_there_is_has_a_change_that_causes_it() -> None:
    assert set(EVENT_TYPES) == CAUSED
