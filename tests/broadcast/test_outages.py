"""Parts that die, hang and come back under a stream of changes: nothing lost, nothing twice, nothing out of order."""

from __future__ import annotations

import shutil
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from tests.broadcast.change_stream import Record, committed, prepare, recording, streaming
from tests.broadcast.frozen_bus import frozen
from tests.harness.client import Client, connect
from tests.harness.fixtures import StartServer
from tests.harness.matchers import an_error
from tests.harness.server import MahavishnuServer
from tests.harness.services import DriverGoneError

ROOMS = ("global", "pool:p", "worker:w1")

PUBLISH_TIMEOUT_SECONDS = 1.0

PROMISED_SECONDS = 2.0
"""How late an event may be while a part is away."""


def assert_in_time(latencies: list[float]) -> None:
    """What is found by comparing with the log is late by anything from nothing to the whole time between two
    comparisons, and so by half of that in the middle. A machine that is busy holds up some events, but not half of all,
    and one in ten not by the time that is promised.
    """
    assert sorted(latencies)[len(latencies) * 9 // 10] < PROMISED_SECONDS, sorted(latencies)
    assert statistics.median(latencies) < PROMISED_SECONDS / 2, sorted(latencies)


async def subscribe_to_all(client: Client) -> list[float]:
    """Subscribe to each room, and return how many seconds each took."""
    return [await seconds_to_subscribe(client, room) for room in ROOMS]


async def seconds_to_subscribe(client: Client, room: str) -> float:
    began = time.monotonic()
    await client.subscribe(room)
    return time.monotonic() - began


async def assert_all_received(server: MahavishnuServer, record: Record, *, after: int) -> None:
    """Each room was given exactly what was committed above `after`, in that order."""
    for room in ROOMS:
        in_log = [(seq, id) for seq, id in committed(server, room) if seq > after]
        await record.has_seen(room, in_log[-1][0])
        assert record.seen(room) == in_log


async def test_the_bus_is_killed_frozen_and_stopped_under_a_stream_of_changes(
    start_server: StartServer,
) -> None:
    server = start_server(publish_timeout_seconds=PUBLISH_TIMEOUT_SECONDS)
    prepare(server)
    valkey = server.valkey
    async with connect(server) as client:
        await subscribe_to_all(client)
        start = committed(server, "global")[-1][0]
        async with recording(client) as record:
            with streaming(server):
                await record.until_pushed()
                for take_away, bring_back in (
                    (valkey.kill, valkey.start),
                    (valkey.pause, valkey.resume),
                    (valkey.stop, valkey.start),
                ):
                    take_away()
                    assert_in_time(await record.more(500))
                    bring_back()
                    await record.until_pushed()
            await assert_all_received(server, record, after=start)


async def test_a_bus_that_is_restarted_again_and_again_costs_nothing_but_time(start_server: StartServer) -> None:
    server = start_server(publish_timeout_seconds=PUBLISH_TIMEOUT_SECONDS)
    prepare(server)
    async with connect(server) as client:
        await subscribe_to_all(client)
        start = committed(server, "global")[-1][0]
        async with recording(client) as record:
            with streaming(server):
                for _ in range(4):
                    await record.more(15)
                    server.valkey.kill()
                    await record.more(5)
                    server.valkey.start()
                await record.until_pushed()
            await assert_all_received(server, record, after=start)


async def test_a_server_started_without_its_bus_delivers_and_joins_it_later(start_server: StartServer) -> None:
    server = start_server(started=False, publish_timeout_seconds=PUBLISH_TIMEOUT_SECONDS)
    prepare(server)
    server.valkey.kill()
    server.start()
    async with connect(server) as client:
        assert statistics.median(await subscribe_to_all(client)) < PUBLISH_TIMEOUT_SECONDS
        start = committed(server, "global")[-1][0]
        async with recording(client) as record:
            with streaming(server):
                assert_in_time(await record.more(300))
                server.valkey.start()
                await record.until_pushed()
            await assert_all_received(server, record, after=start)


async def test_whoever_subscribes_while_the_bus_hangs_is_served_at_once_and_pushed_to_later(
    start_server: StartServer,
) -> None:
    server = start_server(publish_timeout_seconds=PUBLISH_TIMEOUT_SECONDS)
    prepare(server)
    async with connect(server) as client:
        await client.subscribe("pool:p")
        with frozen(server.valkey):
            durations = [await seconds_to_subscribe(client, room) for room in ("global", "worker:w1", "worker:w2")]
            # Only the first waits for the bus, and another one may wait for a machine that is busy.
            assert min(durations) < PUBLISH_TIMEOUT_SECONDS
            server.services.change_worker_status(worker_id="w1", status="busy")
            names = {(event["event"], event["room"]) for event in await client.events(5)}
        assert names == {
            ("worker.status_changed", "pool:p"),
            ("worker.status_changed", "global"),
            ("worker.status_changed", "worker:w1"),
            ("pool.status_changed", "pool:p"),
            ("pool.status_changed", "global"),
        }
        server.services.change_worker_status(worker_id="w1", status="idle")
        await client.events(5)
        async with recording(client) as record:
            with streaming(server):
                await record.until_pushed()


# --- Between the commit and the push ---------------------------------------------------------------------------------


async def test_writer_and_server_killed_between_commit_and_push_lose_nothing_for_whoever_resumes(
    start_server: StartServer,
) -> None:
    server = start_server(publish_timeout_seconds=PUBLISH_TIMEOUT_SECONDS)
    prepare(server)
    writer = server.driver()
    async with connect(server) as client:
        await client.subscribe("worker:w1")
        writer.services.change_worker_status(worker_id="w1", status="busy")
        seen = await client.event()
        epoch = client.welcome["data"]["epoch"]
        # Committed, and pushed into a bus that takes nothing. Then everybody dies, before the log is read again.
        server.signal(signal.SIGSTOP)
        server.valkey.pause()
        for status in ("idle", "busy", "offline"):
            writer.services.change_worker_status(worker_id="w1", status=status)
        writer.kill()
        server.kill()
        server.valkey.kill()
    server.valkey.start()
    server.start()
    async with connect(server) as client:
        assert client.welcome["data"]["epoch"] == epoch
        answer = await client.subscribe("worker:w1", since=seen["seq"], epoch=epoch)
        replayed = await client.events(3)
        assert (answer["data"]["recovered"], answer["data"]["missed"]) == (True, 3)
        assert [(event["data"]["status"], event["replay"]) for event in replayed] == [
            ("idle", True),
            ("busy", True),
            ("offline", True),
        ]
        server.services.change_worker_status(worker_id="w1", status="idle")
        live = await client.event()
        assert (live["data"]["status"], "replay" in live) == ("idle", False)
        in_log = committed(server, "worker:w1")
        assert [(event["seq"], event["id"]) for event in [seen, *replayed, live]] == in_log[1:]


_DIE_INSTEAD_OF_PUSHING = """
import os, signal
from orchestration import services
from realtime.broadcast.publisher import Publisher
Publisher.publish = lambda self, deliveries: os.kill(os.getpid(), signal.SIGKILL)
services.change_worker_status(worker_id="w1", status="busy")
"""


async def test_a_writer_killed_right_after_its_commit_is_heard_on_an_open_connection(
    start_server: StartServer,
) -> None:
    server = start_server(publish_timeout_seconds=PUBLISH_TIMEOUT_SECONDS)
    prepare(server)
    async with connect(server) as client:
        await client.subscribe("worker:w1")
        with pytest.raises(DriverGoneError):
            server.driver().execute(_DIE_INSTEAD_OF_PUSHING)
        event = await client.event()
        assert event["data"]["status"] == "busy"
        # Nor does it come again, with the next comparison or the next push.
        server.services.change_worker_status(worker_id="w1", status="idle")
        assert (await client.event())["data"]["status"] == "idle"
        await client.expect_nothing(0.6)


# --- The database ----------------------------------------------------------------------------------------------------


@contextmanager
def no_database_for(role: str, admin_url: str) -> Iterator[None]:
    """Take the database away from one role: its sessions end, and new ones are refused."""
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute(f"ALTER ROLE {role} NOLOGIN".encode())
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [role])
        try:
            yield
        finally:
            admin.execute(f"ALTER ROLE {role} LOGIN".encode())


async def test_the_database_goes_away_from_the_server_and_comes_back(
    start_server: StartServer, postgres_url: Callable[[], str]
) -> None:
    writers = start_server(database="postgres", started=False, publish_timeout_seconds=PUBLISH_TIMEOUT_SECONDS)
    admin_url, role = postgres_url(), "server_of_this_test"
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {role} SUPERUSER LOGIN PASSWORD 'x'".encode())
    url = psycopg.conninfo.conninfo_to_dict(writers.database_url)
    own_url = f"postgresql://{role}:x@/{url['dbname']}?host={url['host']}" + (
        f"&port={url['port']}" if "port" in url else ""
    )
    server = start_server(
        beside=writers, environment={"DATABASE_URL": own_url}, publish_timeout_seconds=PUBLISH_TIMEOUT_SECONDS
    )
    prepare(writers)
    async with connect(server) as client, connect(server) as asker:
        await subscribe_to_all(client)
        start = committed(writers, "global")[-1][0]
        async with recording(client) as record:
            with streaming(writers):
                await record.until_pushed()
                with no_database_for(role, admin_url):
                    # The bus alone is enough, as long as it leaves nothing out.
                    await record.until_pushed()
                    assert (await asker.request("get_pool_status", pool_id="p1"))["error_code"] == "SERVER_ERROR"
                    writers.valkey.kill()
                await record.more(60)
                writers.valkey.start()
                await record.until_pushed()
            await assert_all_received(writers, record, after=start)
    log = server.log_text()
    assert "A get_pool_status request failed: the database does not answer" in log
    assert "Traceback" not in log


# --- Another log -----------------------------------------------------------------------------------------------------


async def test_a_new_name_for_the_log_closes_everybody_who_then_starts_over(start_server: StartServer) -> None:
    server = start_server(publish_timeout_seconds=PUBLISH_TIMEOUT_SECONDS)
    prepare(server)
    async with connect(server) as client:
        await client.subscribe("worker:w1", since=0)
        *_, last = await client.events(1)
        epoch = client.welcome["data"]["epoch"]
        assert server.manage("renew_epoch").returncode == 0
        assert await client.wait_closed() == (1012, "EVENTS_TRIMMED")
        (told,) = client.waiting()
        assert told == an_error("EVENTS_TRIMMED", told["error_message"], retryable=True)
    async with connect(server) as client:
        answer = await client.subscribe("worker:w1", since=last["seq"], epoch=epoch)
        data = answer["data"]
        assert data == {
            "channel": "worker:w1",
            "status": "subscribed",
            "seq": data["seq"],
            "epoch": client.welcome["data"]["epoch"],
            "recovered": False,
            "missed": 0,
            "reason": "epoch",
        }
        assert data["epoch"] != epoch
        server.services.change_worker_status(worker_id="w1", status="busy")
        live = await client.event()
        assert live["seq"] > data["seq"]
        again = await client.subscribe("worker:w1", since=data["seq"], epoch=data["epoch"])
        assert (again["data"]["recovered"], again["data"]["missed"]) == (True, 1)


async def test_an_older_backup_is_put_in_place(start_server: StartServer) -> None:
    server = start_server(started=False, publish_timeout_seconds=PUBLISH_TIMEOUT_SECONDS)
    prepare(server)
    database = server.var_dir / "mahavishnu.sqlite3"
    server.services_driver.close()
    shutil.copyfile(database, server.var_dir / "backup.sqlite3")
    server.start()
    async with connect(server) as client:
        await client.subscribe("worker:w1")
        for status in ("busy", "idle", "error"):
            server.services.change_worker_status(worker_id="w1", status=status)
        last = (await client.events(3))[-1]
        epoch = client.welcome["data"]["epoch"]
    server.terminate()
    server.services_driver.close()
    for file in server.var_dir.glob("mahavishnu.sqlite3*"):
        file.unlink()
    shutil.copyfile(server.var_dir / "backup.sqlite3", database)
    assert server.manage("renew_epoch").returncode == 0
    server.start()
    # The same positions again, of other events.
    for status in ("busy", "idle", "offline", "idle"):
        server.services.change_worker_status(worker_id="w1", status=status)
    async with connect(server) as client:
        answer = await client.subscribe("worker:w1", since=last["seq"], epoch=epoch, snapshot=True)
        assert (answer["data"]["recovered"], answer["data"]["reason"]) == (False, "epoch")
        assert answer["data"]["snapshot"]["status"] == "idle"
        await client.expect_nothing(0.1)
