"""Several processes behind one port: clients see one server."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.harness.client import connect
from tests.harness.fixtures import StartServer
from tests.harness.matchers import an_error
from tests.harness.ports import HOST
from tests.harness.server import MahavishnuServer
from tests.harness.waiting import eventually
from tests.site.web_replicas import (
    MAX_CLIENTS,
    clients_by_process,
    clients_of_every_process,
    connect_with_head_start,
    fastest_first,
    only,
    port_of,
    processes_of,
)

CROWD = 900
MAX_CONNECTIONS = 15
QUIET_SECONDS = 0.6

RUN_WORKFLOW = """
from orchestration import services
from realtime.models import EventRoom
services.create_workflow(workflow_id=workflow_id, adapter="python", prompt="", stages=["first", "second"])
services.start_workflow(workflow_id=workflow_id)
for stage_name in ("first", "second"):
    services.start_stage(workflow_id=workflow_id, stage_name=stage_name)
    services.complete_stage(workflow_id=workflow_id, stage_name=stage_name)
services.complete_workflow(workflow_id=workflow_id)
in_room = EventRoom.objects.filter(room=f"workflow:{workflow_id}").order_by("event_id")
result = in_room.values_list("event_id", "event__name")
"""

CREATE_WORKER = """
from orchestration import services
from realtime.eventlog.position import current_position
services.create_pool(pool_id=pool_id)
services.register_worker(worker_id=worker_id, pool_id=pool_id)
position = current_position()
result = {"since": position.seq, "epoch": position.epoch}
"""

CHANGE_WORKER = """
import os, time
from orchestration import services
from realtime.models import EventRoom
for number in range(changes):
    services.change_worker_status(worker_id=worker_id, status=("busy", "idle")[number % 2])
    time.sleep(0.005)
    while number == changes // 2 and not os.path.exists(resume_file):
        time.sleep(0.01)
services.change_worker_status(worker_id=worker_id, status="offline")
in_room = EventRoom.objects.filter(room=f"worker:{worker_id}", event__gt=since).order_by("event_id")
result = in_room.values_list("event_id", flat=True)
"""
CHANGES = 80


@pytest.fixture(scope="module")
def prefork(start_module_server: StartServer) -> MahavishnuServer:
    """Three processes on one port, on SQLite. On a busy machine a crowd takes long to connect, without a request."""
    return start_module_server(processes=3, open_timeout_seconds=120)


@pytest.fixture(scope="module")
def postgres_prefork(start_module_server: StartServer) -> MahavishnuServer:
    """Two processes on one port, on Postgres."""
    return start_module_server(database="postgres", processes=2)


@pytest.fixture(params=["prefork", pytest.param("postgres_prefork", marks=pytest.mark.chaos)])
def prefork_on_both(request: pytest.FixtureRequest) -> MahavishnuServer:
    """Run the test on SQLite, and in a chaos run on Postgres: each process uses it as a single server does."""
    server: MahavishnuServer = request.getfixturevalue(request.param)
    return server


async def test_prefork_delivers_every_event_once_to_clients_of_every_process(
    prefork_on_both: MahavishnuServer, unique: Callable[[str], str]
) -> None:
    workflow_id = unique("wf")
    async with clients_of_every_process(prefork_on_both, per_process=2) as clients:
        for client in clients:
            await client.subscribe(f"workflow:{workflow_id}")
        logged = await asyncio.to_thread(prefork_on_both.services_driver.execute, RUN_WORKFLOW, workflow_id=workflow_id)
        received = [await client.events(len(logged)) for client in clients]
        assert [[event["seq"], event["event"]] for event in received[0]] == logged
        assert received == [received[0]] * len(clients)
        # Longer than a relay waits before it compares its position with the log.
        await asyncio.gather(*(client.expect_nothing(QUIET_SECONDS) for client in clients))


class Follower:
    """A client of one channel that reconnects and resumes when its connection ends.

    Attributes:
        seen: The `seq` of every event it received, in order.
        port: The client's port of the current connection.
        connections: How many connections it has had.
    """

    def __init__(self, server: MahavishnuServer, channel: str, *, position: dict[str, Any]) -> None:
        self.seen: list[int] = []
        self.port = 0
        self.connections = 0
        self._server = server
        self._channel = channel
        self._position = position

    async def follow(self) -> None:
        """Follow the channel until the worker is offline."""
        while True:
            try:
                async with connect(self._server) as client:
                    answer = await client.subscribe(self._channel, **self._position)
                    assert answer["data"]["recovered"] is True
                    self.port, self.connections = port_of(client), self.connections + 1
                    while True:
                        event = await client.event()
                        self.seen.append(event["seq"])
                        self._position["since"] = event["seq"]
                        if event["data"]["status"] == "offline":
                            return
            except (ConnectionClosed, InvalidHandshake, OSError):
                pass  # The process was killed while it served this client, or before it could.


async def test_prefork_clients_of_a_killed_process_resume_without_loss_or_duplicates(
    prefork_on_both: MahavishnuServer, unique: Callable[[str], str], tmp_path: Path
) -> None:
    pool_id, worker_id = unique("pool"), unique("worker")
    driver = prefork_on_both.services_driver
    position = await asyncio.to_thread(driver.execute, CREATE_WORKER, pool_id=pool_id, worker_id=worker_id)

    followers: list[Follower] = []
    tasks: list[asyncio.Task[None]] = []
    victim = processes_of(prefork_on_both)[0]
    while not any(follower.port in clients_by_process(prefork_on_both)[victim.pid] for follower in followers):
        assert len(followers) < MAX_CLIENTS
        for _ in range(prefork_on_both.processes):
            followers.append(Follower(prefork_on_both, f"worker:{worker_id}", position=dict(position)))
            tasks.append(asyncio.create_task(followers[-1].follow()))
        await eventually(lambda: all(follower.connections for follower in followers))

    killed = tmp_path / "killed"
    variables = {"worker_id": worker_id, "changes": CHANGES, "since": position["since"], "resume_file": str(killed)}
    changes = asyncio.create_task(asyncio.to_thread(driver.execute, CHANGE_WORKER, **variables))
    await eventually(lambda: all(len(follower.seen) > CHANGES / 10 for follower in followers))
    victim_ports = clients_by_process(prefork_on_both)[victim.pid]
    victim_followers = {follower for follower in followers if follower.port in victim_ports}
    victim.kill()
    killed.touch()
    await asyncio.gather(*tasks)
    logged = await changes

    assert len(logged) == CHANGES + 1
    assert [follower.seen for follower in followers] == [logged] * len(followers)
    assert {follower for follower in followers if follower.connections > 1} == victim_followers != set()

    # Another process has replaced it, and serves.
    async with clients_of_every_process(prefork_on_both, per_process=1):
        assert victim.pid not in {process.pid for process in processes_of(prefork_on_both)}


async def test_prefork_assigns_new_clients_to_the_least_loaded_processes(prefork: MahavishnuServer) -> None:
    crowded = (await fastest_first(prefork))[0]
    async with AsyncExitStack() as stack:
        async with only(prefork, crowded):
            # A socket counts before its first request, so the crowd sends none.
            for _ in range(CROWD):
                stack.enter_context(socket.create_connection((HOST, prefork.port)))
            await eventually(lambda: len(clients_by_process(prefork)[crowded.pid]) == CROWD)
        newcomers = {
            port_of(await stack.enter_async_context(connect_with_head_start(prefork, crowded))) for _ in range(45)
        }
        counts = {pid: len(ports & newcomers) for pid, ports in clients_by_process(prefork).items()}
        assert sum(counts.values()) == 45
        # It accepts after 45 ms, and the others after at most 3 ms, unless the machine is busy. Without the delays it
        # would accept all, because it sees each of them first.
        assert counts[crowded.pid] < 45 / 2


async def test_prefork_full_process_leaves_new_clients_to_the_others(start_server: StartServer) -> None:
    two = start_server(processes=2, max_connections=MAX_CONNECTIONS)
    full = (await fastest_first(two))[0]
    async with AsyncExitStack() as stack:
        async with only(two, full):
            for _ in range(MAX_CONNECTIONS):
                await stack.enter_async_context(connect(two))
        accepted = refused = 0
        while accepted < MAX_CONNECTIONS:
            client = await stack.enter_async_context(connect_with_head_start(two, full))
            if client.welcome["event"] == "session.created":
                accepted += 1
            else:
                # A full process waits a quarter of a second before it accepts a client. On a busy machine the other
                # may not be scheduled during that time.
                await client.wait_closed()
                refused += 1
                assert refused <= 3
        assert [len(ports) for ports in clients_by_process(two).values()] == [MAX_CONNECTIONS, MAX_CONNECTIONS]
        async with connect(two) as client:
            assert client.welcome == an_error(
                "TOO_MANY_CONNECTIONS",
                f"Connection limit reached ({MAX_CONNECTIONS}); try again later",
                retryable=True,
            )
            assert await client.wait_closed() == (1013, "TOO_MANY_CONNECTIONS")
