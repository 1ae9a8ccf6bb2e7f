"""Several processes behind one port: to a client they are one server."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.harness.client import Client, connect
from tests.harness.fixtures import NewDatabase, StartServer, server_starter
from tests.harness.matchers import A_NUMBER, A_TIME, A_UUID, an_error
from tests.harness.serve import MAKE, MANAGE, StartServe
from tests.harness.server import MahavishnuServer, clean_environment
from tests.harness.services import PROJECT_DIR

PROCESSES = 4
MAX_CLIENTS = 400
CROWD = 900
READY_TIMEOUT_SECONDS = 40
QUIET_SECONDS = 0.6

LIFE_OF_A_WORKFLOW = """
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

A_WORKER = """
from orchestration import services
from realtime.eventlog.position import current_position
services.create_pool(pool_id=pool_id)
services.register_worker(worker_id=worker_id, pool_id=pool_id)
position = current_position()
result = {"since": position.seq, "epoch": position.epoch}
"""

STREAM_OF_CHANGES = """
import os, time
from orchestration import services
from realtime.models import EventRoom
for number in range(changes):
    services.change_worker_status(worker_id=worker_id, status=("busy", "idle")[number % 2])
    time.sleep(0.005)
    while number == changes // 2 and not os.path.exists(go_on):
        time.sleep(0.01)
services.change_worker_status(worker_id=worker_id, status="offline")
in_room = EventRoom.objects.filter(room=f"worker:{worker_id}", event__gt=since).order_by("event_id")
result = in_room.values_list("event_id", flat=True)
"""
CHANGES = 200


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def four(
    request: pytest.FixtureRequest, new_database: NewDatabase, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MahavishnuServer]:
    """Four processes on one port, beside the shared server and on its database."""
    beside: MahavishnuServer = request.getfixturevalue("server" if request.param == "sqlite" else "postgres_server")
    starting = server_starter(new_database, tmp_path_factory)
    server = next(starting)(beside=beside, processes=PROCESSES)
    yield server
    next(starting, None)


def processes_of(server: MahavishnuServer) -> list[psutil.Process]:
    """The processes that serve, without the one that started them."""
    children: list[psutil.Process] = psutil.Process(server.pid).children()
    return children


def clients_by_process(server: MahavishnuServer) -> dict[int, set[int]]:
    """The ports of the clients that each process has a connection with, by its pid, as the kernel knows them."""
    return {
        process.pid: {
            connection.raddr.port
            for connection in process.net_connections("tcp")
            if connection.status == psutil.CONN_ESTABLISHED and connection.laddr.port == server.port
        }
        for process in processes_of(server)
    }


def port_of(client: Client) -> int:
    port: int = client.connection.local_address[1]
    return port


def listening(server: MahavishnuServer) -> list[psutil.Process]:
    """The processes that have begun to listen: then their copy of the socket is not their standard input any more."""
    return [
        process
        for process in processes_of(server)
        if any(each.fd > 0 and each.status == psutil.CONN_LISTEN for each in process.net_connections("tcp"))
    ]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(READY_TIMEOUT_SECONDS):
        while not condition():  # noqa: ASYNC110  (what other processes do sets no event here)
            await asyncio.sleep(0.01)


@asynccontextmanager
async def clients_of_every_process(server: MahavishnuServer, *, of_each: int) -> AsyncIterator[list[Client]]:
    """Connect until every process serves at least so many of these clients."""
    clients: list[Client] = []

    def are_spread() -> bool:
        ports = set(map(port_of, clients))
        return all(len(theirs & ports) >= of_each for theirs in clients_by_process(server).values())

    async with AsyncExitStack() as stack:
        await until(lambda: len(listening(server)) == server.processes)
        while not are_spread():
            assert len(clients) < MAX_CLIENTS, clients_by_process(server)
            clients.append(await stack.enter_async_context(connect(server)))
        yield clients


async def test_clients_of_every_process_get_every_event_once(
    four: MahavishnuServer, unique: Callable[[str], str]
) -> None:
    workflow_id = unique("wf")
    async with clients_of_every_process(four, of_each=2) as clients:
        for client in clients:
            await client.subscribe(f"workflow:{workflow_id}")
        logged = await asyncio.to_thread(four.services_driver.execute, LIFE_OF_A_WORKFLOW, workflow_id=workflow_id)
        received = [await client.events(len(logged)) for client in clients]
        assert [[event["seq"], event["event"]] for event in received[0]] == logged
        assert received == [received[0]] * len(clients)
        # Longer than a relay waits before it compares what it has delivered with the log.
        await asyncio.gather(*(client.expect_nothing(QUIET_SECONDS) for client in clients))


class Follower:
    """A client of one channel that comes back and resumes whenever its connection is gone.

    Attributes:
        seen: The `seq` of every event it was given, in order.
        port: Its end of the connection it has.
        connections: How many it has had.
    """

    def __init__(self, server: MahavishnuServer, channel: str, *, position: dict[str, Any]) -> None:
        self.seen: list[int] = []
        self.port = 0
        self.connections = 0
        self._server = server
        self._channel = channel
        self._position = position

    async def follow(self) -> None:
        """Return after the event that says that its worker is offline."""
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
                pass  # The process that served it, or was about to, is gone.


async def test_clients_of_a_killed_process_go_on_elsewhere_and_lose_and_double_nothing(
    four: MahavishnuServer, unique: Callable[[str], str], tmp_path: Path
) -> None:
    pool_id, worker_id = unique("pool"), unique("worker")
    driver = four.services_driver
    position = await asyncio.to_thread(driver.execute, A_WORKER, pool_id=pool_id, worker_id=worker_id)

    followers: list[Follower] = []
    tasks: list[asyncio.Task[None]] = []
    victim = processes_of(four)[0]
    while not any(follower.port in clients_by_process(four)[victim.pid] for follower in followers):
        assert len(followers) < MAX_CLIENTS
        for _ in range(PROCESSES):
            followers.append(Follower(four, f"worker:{worker_id}", position=dict(position)))
            tasks.append(asyncio.create_task(followers[-1].follow()))
        await until(lambda: all(follower.connections for follower in followers))

    killed = tmp_path / "killed"
    order = {"worker_id": worker_id, "changes": CHANGES, "since": position["since"], "go_on": str(killed)}
    changes = asyncio.create_task(asyncio.to_thread(driver.execute, STREAM_OF_CHANGES, **order))
    await until(lambda: all(len(follower.seen) > CHANGES / 10 for follower in followers))
    served_there = clients_by_process(four)[victim.pid]
    of_victim = {follower for follower in followers if follower.port in served_there}
    victim.kill()
    killed.touch()
    await asyncio.gather(*tasks)
    logged = await changes

    assert len(logged) == CHANGES + 1
    assert [follower.seen for follower in followers] == [logged] * len(followers)
    assert {follower for follower in followers if follower.connections > 1} == of_victim != set()

    # Another one has taken its place, and serves.
    async with clients_of_every_process(four, of_each=1):
        assert victim.pid not in {process.pid for process in processes_of(four)}


async def test_new_clients_go_to_the_processes_that_have_the_fewest(four: MahavishnuServer) -> None:
    await until(lambda: len(listening(four)) == four.processes)
    crowded, *others = processes_of(four)
    async with AsyncExitStack() as stack:
        for process in others:
            process.suspend()
        try:
            await asyncio.gather(*(stack.enter_async_context(connect(four)) for _ in range(CROWD)))
        finally:
            for process in others:
                process.resume()
        newcomers = {port_of(await stack.enter_async_context(connect(four))) for _ in range(45)}
        theirs = {pid: len(ports & newcomers) for pid, ports in clients_by_process(four).items()}
        assert sum(theirs.values()) == 45
        # It waits 45 ms before it takes one, and the others 3 at most, unless the machine has much else to do.
        assert theirs[crowded.pid] <= 4


async def test_a_full_process_leaves_new_clients_to_the_others(
    start_server: StartServer, server: MahavishnuServer
) -> None:
    full = start_server(beside=server, processes=3, max_connections=3)
    await until(lambda: len(listening(full)) == full.processes)
    async with AsyncExitStack() as stack:
        refusals = 0
        for _ in range(9):
            # Who is full leaves a client to the others for a quarter of a second, in which a machine that is busy may
            # let none of them look.
            while (client := await stack.enter_async_context(connect(full))).welcome["event"] != "session.created":
                await client.wait_closed()
                refusals += 1
                assert refusals <= 3
        assert [len(ports) for ports in clients_by_process(full).values()] == [3, 3, 3]
        async with connect(full) as refused:
            assert refused.welcome == an_error(
                "TOO_MANY_CONNECTIONS",
                "This server has 3 connections, the most allowed: try again later",
                retryable=True,
            )
            assert await refused.wait_closed() == (1013, "TOO_MANY_CONNECTIONS")


A_GOODBYE = {
    "id": A_UUID,
    "type": "event",
    "event": "session.draining",
    "data": {
        "retry_after_ms": A_NUMBER,
        "message": "This server is about to stop: connect again and subscribe with `since`",
    },
    "timestamp": A_TIME,
}


def terminate_parent(server: MahavishnuServer) -> None:
    server.signal(signal.SIGTERM)


def terminate_group(server: MahavishnuServer) -> None:
    os.killpg(server.pid, signal.SIGTERM)


def kill_parent(server: MahavishnuServer) -> None:
    server.signal(signal.SIGKILL)


@pytest.mark.parametrize(
    ("stop", "exit_code"), [(terminate_parent, 0), (terminate_group, 0), (kill_parent, -signal.SIGKILL)]
)
async def test_a_stop_tells_every_client_and_leaves_no_process_behind(
    start_server: StartServer,
    server: MahavishnuServer,
    stop: Callable[[MahavishnuServer], None],
    exit_code: int,
) -> None:
    two = start_server(beside=server, processes=2)
    serving = processes_of(two)
    # A signal to the parent's group is passed on to them; they must not get it a second time, which would mean haste.
    assert [os.getpgid(process.pid) for process in serving] == [process.pid for process in serving]
    async with clients_of_every_process(two, of_each=1) as clients:
        stop(two)
        for client in clients:
            assert await client.next() == A_GOODBYE
            assert await client.wait_closed() == (1012, "DRAINING")
    assert await asyncio.to_thread(two.wait_ended) == exit_code
    await until(lambda: not any(map(is_there, serving)))


def is_there(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_make_serve_starts_and_stops_as_many_as_it_is_told(serve: StartServe) -> None:
    run = serve((*MAKE, "PROCESSES=2"))
    run.wait_healthy()
    assert f"ws://127.0.0.1:{run.port} with 2 processes" in run.output()
    assert len(run.part("web_processes").children()) == 2
    run.signal_group(signal.SIGTERM)
    run.wait_gone()
    # Whoever uses Redis ends before it does.
    assert run.output().index("web_processes stopped (rc=0)") < run.output().index("sending SIGTERM to valkey")


def test_nothing_is_left_of_a_serve_that_is_killed(serve: StartServe) -> None:
    run = serve((*MANAGE, "--processes", "2"))
    run.wait_healthy()
    run.process.kill()
    run.wait_gone()


def run_to_the_end(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=PROJECT_DIR,
        env={**clean_environment(), "DJANGO_SETTINGS_MODULE": "mahavishnu_site.settings", **variables},
        capture_output=True,
        text=True,
        timeout=READY_TIMEOUT_SECONDS,
        check=False,
    )


def test_a_port_that_is_taken_is_said_plainly(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        variables = {"MAHAVISHNU_VAR_DIR": str(tmp_path), "MAHAVISHNU_PORT": str(port)}
        done = run_to_the_end("-m", "mahavishnu_site.serve.prefork", "true", **variables)
    assert (done.returncode, done.stdout, done.stderr) == (
        1,
        "",
        f"Port {port} on 127.0.0.1 is taken by another program. Stop it, or set MAHAVISHNU_PORT to a free port.\n",
    )


@pytest.mark.parametrize("number", ["65", "two"])
def test_a_number_of_processes_that_cannot_be_is_refused(tmp_path: Path, number: str) -> None:
    done = run_to_the_end("manage.py", "serve", "--processes", number, MAHAVISHNU_VAR_DIR=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.endswith("error: argument --processes: expected a whole number from 1 to 64\n")
