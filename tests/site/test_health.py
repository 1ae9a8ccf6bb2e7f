"""What `GET /health` says when all is well, and which part it names when one is not."""

from __future__ import annotations

import asyncio
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import psycopg
import pytest

from realtime.limits import Limits
from tests.harness.client import connect
from tests.harness.fixtures import StartServer
from tests.harness.health import read_health
from tests.harness.matchers import A_NUMBER, AN_EPOCH
from tests.harness.ports import HOST
from tests.harness.server import MahavishnuServer
from tests.harness.waiting import wait_until

WITHIN_SECONDS = 60
RELAY_POLL_SECONDS = Limits().relay_poll_seconds

LOST = "The relay cannot read the event log"
FOUND = "The relay reads the event log again"


@pytest.fixture(scope="module")
def server(start_shared_server: StartServer) -> Iterator[MahavishnuServer]:
    """A server of this module's own, whose database and Redis are taken away and given back."""
    server = start_shared_server(database="postgres")
    yield server
    server.close()


@pytest.mark.parametrize("path", ["/", "/health"])
def test_what_is_only_to_be_read_says_so_to_whoever_posts(server: MahavishnuServer, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(f"{server.http_url}{path}", data=b"{}", timeout=20)
    with refusal.value as answer:
        assert (answer.code, answer.headers["Allow"]) == (405, "GET, HEAD")


async def test_a_healthy_server_reports_every_part(server: MahavishnuServer) -> None:
    async with connect(server) as client, connect(server) as other:
        await client.subscribe("pool:healthy")
        await client.subscribe("global")
        await other.subscribe("global")
        # Two rooms hear of it, and then it is one event and two deliveries.
        server.services.create_pool(pool_id="healthy")
        seq = (await client.events(2))[0]["seq"]
        await other.event()
        status, report = read_health(server)
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
            "log_seq": seq,
            "log_epoch": client.welcome["data"]["epoch"],
            "delivered_events": A_NUMBER,
            "large_events": 0,
            "problems": [],
        },
    )
    assert report["log_epoch"] == AN_EPOCH
    assert 0 < lag_ms < 5_000
    wait_until(lambda: read_health(server)[1]["connections"] == 0, timeout_seconds=WITHIN_SECONDS, what="the end")


def test_a_server_without_its_redis_says_so_and_recovers(server: MahavishnuServer) -> None:
    before = read_health(server)[1]
    server.valkey.kill()
    status, report = read_health(server)
    assert status == 503
    assert report == {
        **before,
        "status": "unhealthy",
        "redis": "down",
        "problems": ["redis: does not answer (ConnectionError)"],
    }
    server.valkey.start()
    assert read_health(server) == (200, before)


def test_a_server_whose_redis_hangs_says_so(server: MahavishnuServer) -> None:
    server.valkey.pause()
    try:
        status, report = read_health(server)
    finally:
        server.valkey.resume()
    assert (status, report["status"], report["redis"]) == (503, "unhealthy", "down")
    assert report["problems"] == ["redis: does not answer (TimeoutError)"]


async def test_a_server_without_its_database_says_so_and_recovers(server: MahavishnuServer) -> None:
    async with connect(server) as client:
        await client.subscribe("global")
        # By a command: its connection to the database does not outlive it, and another test has not to miss that.
        emitted = await asyncio.to_thread(server.manage, "emit_test_event", "workflow.started", "--id", "before")
        assert emitted.returncode == 0, emitted.stderr
        await client.event()
        await asyncio.to_thread(lose_and_find_the_database, server)


def lose_and_find_the_database(server: MahavishnuServer) -> None:
    before = read_health(server)[1]
    assert (before["connections"], before["rooms"]) == (1, 1)
    assert before["delivered_events"] > 0
    name = psycopg.conninfo.conninfo_to_dict(server.database_url)["dbname"]
    with psycopg.connect(server.database_url, dbname="postgres", autocommit=True) as admin:
        admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        try:
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
            status, report = read_health(server)
            wait_until(lambda: said(server, LOST) > 0, timeout_seconds=WITHIN_SECONDS, what="the relay's warning")
            time.sleep(3 * RELAY_POLL_SECONDS)
        finally:
            admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    assert status == 503
    assert report == {
        **before,
        "status": "unhealthy",
        "database": "down",
        "relay": "down",
        "log_seq": None,
        "log_epoch": None,
        "relay_lag_ms": None,
        "problems": ["database: does not answer (OperationalError)"],
    }
    wait_until(lambda: read_health(server)[0] == 200, timeout_seconds=WITHIN_SECONDS, what="a healthy answer")
    assert read_health(server) == (200, before)
    wait_until(lambda: said(server, FOUND) > 0, timeout_seconds=WITHIN_SECONDS, what="the relay's relief")
    assert (said(server, LOST), said(server, FOUND)) == (1, 1), "each is said once"


def said(server: MahavishnuServer, line: str) -> int:
    return server.log_text().count(line)


def test_the_health_of_one_server_costs_its_clients_nothing_lasting(server: MahavishnuServer) -> None:
    """Every check has connections of its own: none of them stays open."""
    for _ in range(30):
        assert read_health(server)[0] == 200
    with psycopg.connect(server.database_url) as connection:
        row = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()").fetchone()
    assert row is not None
    assert row[0] < 15
