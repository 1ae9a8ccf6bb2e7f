"""`GET /health` while every part works, and during outages of Redis and of the database."""

from __future__ import annotations

import asyncio
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import psycopg
import pytest
import redis

from realtime.health.checks import CACHE_SECONDS
from realtime.limits import Limits
from tests.harness.client import connect
from tests.harness.fixtures import StartServer
from tests.harness.health import read_health, wait_for_health
from tests.harness.matchers import A_NUMBER, AN_EPOCH
from tests.harness.ports import HOST
from tests.harness.server import MahavishnuServer
from tests.harness.table_lock import workflows_locked
from tests.harness.waiting import eventually, wait_until

WITHIN_SECONDS = 60
RELAY_POLL_SECONDS = Limits().relay_poll_seconds

IN_BOTH = ("status", "connections", "database", "redis", "relay", "scheduler", "problems")
"""What both `/health` and `get_server_status` report, under the same name."""

ABOUT_SERVER = ("server_version", "protocol_version", "ping_after_ms", "limits")

RELAY_FAILED = "The relay cannot read the event log"
RELAY_RECOVERED = "The relay reads the event log again"


@pytest.fixture(scope="module")
def server(start_module_server: StartServer) -> MahavishnuServer:
    """Start a server whose database and Redis the tests take down and restore."""
    return start_module_server(database="postgres")


@pytest.mark.parametrize("path", ["/", "/health"])
def test_post_is_answered_405(server: MahavishnuServer, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{server.http_url}{path}", data=b"{}", timeout=20)
    with caught.value as answer:
        assert (answer.code, answer.headers["Allow"]) == (405, "GET, HEAD")


async def test_health_reports_every_part(server: MahavishnuServer) -> None:
    async with connect(server) as client, connect(server) as other:
        await client.subscribe("pool:healthy")
        await client.subscribe("global")
        await other.subscribe("global")
        # The event is published in two rooms.
        server.services.create_pool(pool_id="healthy")
        seq = (await client.events(2))[0]["seq"]
        await other.event()
        await eventually(lambda: bool(read_health(server)[1]["log_seq"] == seq), what="a check after the event")
        status, report = read_health(server)
        asked = await client.request("get_server_status")
    lag_ms = report.pop("relay_lag_ms")
    assert (status, report) == (
        200,
        {
            "status": "healthy",
            "host": HOST,
            "port": server.port,
            "connections": 2,
            "rooms": 2,
            "max_connections": 1000,
            "message_rate_limit": 100.0,
            "database": "up",
            "redis": "up",
            "relay": "up",
            "scheduler": "off",
            "log_seq": seq,
            "log_epoch": client.welcome["data"]["epoch"],
            "delivered_events": A_NUMBER,
            "large_events": 0,
            "problems": [],
        },
    )
    assert asked["data"] == {
        **{name: report[name] for name in IN_BOTH},
        **{name: client.welcome["data"][name] for name in ABOUT_SERVER},
        "relay_lag_ms": lag_ms,
        "seq": seq,
        "epoch": report["log_epoch"],
    }
    assert report["log_epoch"] == AN_EPOCH
    assert 0 < lag_ms < WITHIN_SECONDS * 1000
    wait_until(lambda: read_health(server)[1]["connections"] == 0, timeout_seconds=WITHIN_SECONDS, what="the end")


def test_health_reports_redis_down_and_recovers(server: MahavishnuServer) -> None:
    before = wait_for_health(server, 200)
    server.valkey.kill()
    assert wait_for_health(server, 503) == {
        **before,
        "status": "unhealthy",
        "redis": "down",
        "problems": ["redis: unavailable (ConnectionError)"],
    }
    server.valkey.start()
    assert wait_for_health(server, 200) == before


def test_health_reports_a_hanging_redis_as_down(server: MahavishnuServer) -> None:
    server.valkey.pause()
    try:
        report = wait_for_health(server, 503)
    finally:
        server.valkey.resume()
    assert (report["status"], report["redis"]) == ("unhealthy", "down")
    assert report["problems"] == ["redis: unavailable (TimeoutError)"]


async def test_health_reports_the_database_down_and_recovers(server: MahavishnuServer) -> None:
    async with connect(server) as client:
        await client.subscribe("global")
        # A command closes its database connection; the outage would break the connection of the shared driver.
        emitted = await asyncio.to_thread(server.manage, "emit_test_event", "workflow.started", "--id", "before")
        assert emitted.returncode == 0, emitted.stderr
        seq = (await client.event())["seq"]
        await eventually(lambda: bool(read_health(server)[1]["log_seq"] == seq), what="a check after the event")
        await asyncio.to_thread(check_database_outage, server)


def check_database_outage(server: MahavishnuServer) -> None:
    before = wait_for_health(server, 200)
    assert (before["connections"], before["rooms"]) == (1, 1)
    assert before["delivered_events"] > 0
    name = psycopg.conninfo.conninfo_to_dict(server.database_url)["dbname"]
    with psycopg.connect(server.database_url, dbname="postgres", autocommit=True) as admin:
        admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        try:
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
            report = wait_for_health(server, 503)
            status = asyncio.run(ask_for_status(server))
            wait_until(
                lambda: count_log_lines(server, RELAY_FAILED) > 0,
                timeout_seconds=WITHIN_SECONDS,
                what="the relay's warning",
            )
            time.sleep(3 * RELAY_POLL_SECONDS)
        finally:
            admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    assert report == {
        **before,
        "status": "unhealthy",
        "database": "down",
        "relay": "down",
        "scheduler": None,
        "log_seq": None,
        "log_epoch": None,
        "relay_lag_ms": None,
        "problems": ["database: unavailable (OperationalError)"],
    }
    assert {name: status[name] for name in IN_BOTH} == {**{name: report[name] for name in IN_BOTH}, "connections": 2}
    assert (status["relay_lag_ms"], status["seq"], status["epoch"]) == (None, None, None)
    assert wait_for_health(server, 200) == before
    wait_until(
        lambda: count_log_lines(server, RELAY_RECOVERED) > 0,
        timeout_seconds=WITHIN_SECONDS,
        what="the relay's recovery line",
    )
    assert (count_log_lines(server, RELAY_FAILED), count_log_lines(server, RELAY_RECOVERED)) == (1, 1), (
        "each line is logged once"
    )


async def ask_for_status(server: MahavishnuServer) -> dict[str, Any]:
    async with connect(server) as client:
        answer: dict[str, Any] = (await client.request("get_server_status"))["data"]
    return answer


def count_log_lines(server: MahavishnuServer, line: str) -> int:
    return server.log_text().count(line)


def test_health_shares_one_check_a_second_and_its_connections(server: MahavishnuServer) -> None:
    wait_for_health(server, 200)
    with redis.Redis.from_url(server.redis_url) as valkey, psycopg.connect(server.database_url) as database:
        before, began = load_of(valkey, database), time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            statuses = set(pool.map(lambda _: read_health(server)[0], range(200)))
        after, seconds = load_of(valkey, database), time.monotonic() - began
    assert statuses == {200}
    assert after.redis_connections == before.redis_connections
    assert after.database_connections <= before.database_connections
    # Each check writes one key.
    assert after.written_keys - before.written_keys <= seconds / CACHE_SECONDS + 1


class Load(NamedTuple):
    redis_connections: int
    written_keys: int
    database_connections: int


def load_of(valkey: redis.Redis, database: psycopg.Connection) -> Load:
    row = database.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()").fetchone()
    assert row is not None
    return Load(
        valkey.info("stats")["total_connections_received"],
        valkey.info("commandstats").get("cmdstat_set", {"calls": 0})["calls"],
        row[0],
    )


async def test_health_reads_the_database_while_clients_use_every_database_thread(start_server: StartServer) -> None:
    server = start_server(database="postgres", database_threads=1)
    async with connect(server) as client:
        with workflows_locked(server):
            request = asyncio.create_task(client.request("get_workflow_status", workflow_id="wf"))
            # A check that starts now finds the thread taken.
            await asyncio.sleep(CACHE_SECONDS)
            report = (await asyncio.to_thread(read_health, server))[1]
        await request
    assert report["database"] == "up"
