"""Subscriptions with a snapshot: the state of a resource at the position of the response."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from tests.connection.resume_requests import announce, numbers, resume
from tests.harness.client import connect
from tests.harness.matchers import A_TIME
from tests.harness.server import MahavishnuServer

Unique = Callable[[str], str]

UNFINISHED_WORKFLOWS_AND_POOLS = """
from orchestration.models import FINISHED_WORKFLOW_STATUSES, Pool, Workflow
from realtime.queries.snapshots import MAX_SNAPSHOT_ROWS
unfinished = Workflow.objects.exclude(status__in=FINISHED_WORKFLOW_STATUSES)
result = [
    list(rows.order_by("-created_at").values_list("pk", flat=True)[:MAX_SNAPSHOT_ROWS])
    for rows in (unfinished, Pool.objects)
]
"""

PENDING_STAGE = {
    "step": 0,
    "status": "pending",
    "worker_id": None,
    "attempt": 0,
    "last_attempt": 1,
    "queued_at": None,
    "started_at": None,
    "finished_at": None,
    "duration_ms": None,
    "progress": None,
    "message": "",
    "error": "",
    "retry_at": None,
}

DRAINING_WORKER = """
from orchestration import services
worker_id = services.join_pool(name=name, process=name, pool_id=pool, release="2026.11")
services.drain_worker(worker_id=worker_id)
"""


async def test_workflow_snapshot_is_its_state_at_the_position_of_the_response(
    server_on_both: MahavishnuServer, unique: Unique
) -> None:
    workflow_id, pool_id, worker_id = unique("wf"), unique("pool"), unique("worker")
    services = server_on_both.services
    services.create_pool(pool_id=pool_id)
    services.register_worker(worker_id=worker_id, pool_id=pool_id)
    services.create_workflow(
        workflow_id=workflow_id,
        name="write",
        adapter="python",
        prompt="Write code",
        stages=["one", "two"],
        pool_id=pool_id,
        params={"words": 3},
    )
    services.start_workflow(workflow_id=workflow_id)
    services.start_stage(workflow_id=workflow_id, stage_name="one", worker_id=worker_id)
    services.complete_stage(workflow_id=workflow_id, stage_name="one", result={"duration_ms": 1500})
    async with connect(server_on_both) as client:
        data = await resume(client, f"workflow:{workflow_id}", snapshot=True)
        assert data["snapshot"] == {
            "workflow_id": workflow_id,
            "name": "write",
            "status": "running",
            "stages_completed": 1,
            "total_stages": 2,
            "pool_id": pool_id,
            "created_at": A_TIME,
            "started_at": A_TIME,
            "finished_at": None,
            "held": None,
            "adapter": "python",
            "prompt": "Write code",
            "params": {"words": 3},
            "deadline_at": None,
            "result": None,
            "error": "",
            "stage_counts": {"completed": 1, "pending": 1},
            "stages": [
                {
                    "position": 0,
                    "stage_name": "one",
                    "step": 0,
                    "status": "completed",
                    "worker_id": worker_id,
                    "attempt": 1,
                    "last_attempt": 1,
                    "queued_at": None,
                    "started_at": A_TIME,
                    "finished_at": A_TIME,
                    "duration_ms": 1500,
                    "progress": None,
                    "message": "",
                    "error": "",
                    "retry_at": None,
                },
                {**PENDING_STAGE, "position": 1, "stage_name": "two"},
            ],
        }
        assert set(data) == {"status", "channel", "seq", "epoch", "snapshot"}
        services.complete_workflow(workflow_id=workflow_id)
        assert (await client.next())["seq"] > data["seq"]


async def test_pool_and_worker_snapshots_list_every_field(server_on_both: MahavishnuServer, unique: Unique) -> None:
    pool_id, worker_id = unique("pool"), unique("worker")
    server_on_both.services.create_pool(pool_id=pool_id)
    server_on_both.services_driver.execute(DRAINING_WORKER, name=worker_id, pool=pool_id)
    async with connect(server_on_both) as client:
        pool = (await resume(client, f"pool:{pool_id}", snapshot=True))["snapshot"]
        worker = (await resume(client, f"worker:{worker_id}-1", snapshot=True))["snapshot"]
    state = {
        "worker_id": f"{worker_id}-1",
        "status": "idle",
        "pool_id": pool_id,
        "draining": True,
        "release": "2026.11",
        "workflow_id": None,
        "stage_name": None,
        "status_changed_at": A_TIME,
        "last_heartbeat_at": A_TIME,
    }
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
        "workers": [{key: value for key, value in state.items() if key != "pool_id"}],
    }
    assert worker == state


async def test_snapshot_of_an_unknown_resource_is_null(server: MahavishnuServer, unique: Unique) -> None:
    async with connect(server) as client:
        for kind in ("workflow", "pool", "worker"):
            data = await resume(client, f"{kind}:{unique('unknown')}", snapshot=True)
            assert data["snapshot"] is None


async def test_global_snapshot_lists_pools_and_unfinished_workflows(server: MahavishnuServer, unique: Unique) -> None:
    pool_id, done, running = unique("pool"), unique("wf"), unique("wf")
    server.services.create_pool(pool_id=pool_id)
    for workflow_id in (running, done):
        server.services.create_workflow(workflow_id=workflow_id, adapter="python", prompt="", stages=["only"])
        server.services.start_workflow(workflow_id=workflow_id)
    server.services.complete_workflow(workflow_id=done)
    async with connect(server) as client:
        snapshot = (await resume(client, "global", snapshot=True))["snapshot"]
    listed = [workflow["workflow_id"] for workflow in snapshot["workflows"]], [p["pool_id"] for p in snapshot["pools"]]
    # The newest come first, before those of other tests.
    assert (listed[0][0], listed[1][0]) == (running, pool_id)
    assert list(listed) == server.services_driver.execute(UNFINISHED_WORKFLOWS_AND_POOLS)


async def test_every_change_is_in_the_snapshot_or_in_a_later_event(
    server_on_both: MahavishnuServer, unique: Unique
) -> None:
    """Subscribe while stages complete one after another: each is in the snapshot or in an event."""
    workflow_id = unique("wf")
    names = [str(number) for number in range(60)]
    server_on_both.services.create_workflow(workflow_id=workflow_id, adapter="python", prompt="", stages=names)
    server_on_both.services.start_workflow(workflow_id=workflow_id)

    # The second half of the stages wait, one for each new subscription.
    subscribed = threading.Semaphore(0)

    def complete() -> None:
        for name in names:
            if int(name) >= len(names) // 2:
                assert subscribed.acquire(timeout=30)
            server_on_both.services.complete_stage(workflow_id=workflow_id, stage_name=name)

    partial_snapshots = 0
    completing = asyncio.create_task(asyncio.to_thread(complete))
    while not completing.done():
        async with connect(server_on_both) as client:
            snapshot = (await resume(client, f"workflow:{workflow_id}", snapshot=True))["snapshot"]
            completed = [stage["stage_name"] for stage in snapshot["stages"] if stage["status"] == "completed"]
            assert snapshot["stages_completed"] == len(completed)
            assert completed == names[: len(completed)]
            if len(completed) < len(names):
                partial_snapshots += 1
                subscribed.release()
                assert (await client.next())["data"]["stage_name"] == names[len(completed)]
    await completing
    assert partial_snapshots > 1


async def test_snapshot_and_replay_come_with_one_subscription(server: MahavishnuServer, room: str) -> None:
    announce(server, room, 2)
    async with connect(server) as client:
        data = await resume(client, room, since=0, snapshot=True)
        assert (data["recovered"], data["missed"], data["snapshot"]) == (True, 2, None)
        assert numbers(await client.events(2)) == [0, 1]


async def test_large_snapshot_is_truncated_like_an_event(server: MahavishnuServer, unique: Unique) -> None:
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
