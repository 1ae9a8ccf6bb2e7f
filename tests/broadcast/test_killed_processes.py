"""A writer or server killed between commit and publishing, and a database outage: no event is lost or duplicated."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from tests.broadcast.change_stream import (
    PUBLISH_TIMEOUT_SECONDS,
    RELAY_POLL_SECONDS,
    assert_all_received,
    committed,
    prepare,
    recording,
    streaming,
    subscribe_to_all,
)
from tests.events.announcements import DIE_INSTEAD_OF_PUBLISHING
from tests.harness.client import connect
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer
from tests.harness.services import DriverExitedError


async def test_resume_recovers_events_of_a_killed_writer_and_server(
    server_with_outages: MahavishnuServer,
) -> None:
    server = server_with_outages
    writer = server.driver()
    async with connect(server) as client:
        await client.subscribe("worker:w1")
        writer.services.change_worker_status(worker_id="w1", status="busy")
        seen = await client.event()
        epoch = client.welcome["data"]["epoch"]
        # Committed, and sent to a hanging channel layer. Then all processes are killed before the log is read again.
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
        response = await client.subscribe("worker:w1", since=seen["seq"], epoch=epoch)
        replayed = await client.events(3)
        assert (response["data"]["recovered"], response["data"]["missed"]) == (True, 3)
        assert [(event["data"]["status"], event["replay"]) for event in replayed] == [
            ("idle", True),
            ("busy", True),
            ("offline", True),
        ]
        server.services.change_worker_status(worker_id="w1", status="idle")
        live = await client.event()
        assert (live["data"]["status"], "replay" in live) == ("idle", False)
        in_log = committed(server, "worker:w1")
        assert [(event["seq"], event["id"]) for event in [seen, *replayed, live]] == in_log[-5:]


_CHANGE_WORKER = """
from orchestration import services
services.change_worker_status(worker_id="w1", status="busy")
"""


async def test_event_of_a_writer_killed_after_its_commit_is_delivered_once(
    server_with_outages: MahavishnuServer,
) -> None:
    server = server_with_outages
    async with connect(server) as client:
        await client.subscribe("worker:w1")
        with pytest.raises(DriverExitedError):
            server.driver().execute(DIE_INSTEAD_OF_PUBLISHING + _CHANGE_WORKER)
        event = await client.event()
        assert event["data"]["status"] == "busy"
        # It does not come again with the next comparison or the next message.
        server.services.change_worker_status(worker_id="w1", status="idle")
        assert (await client.event())["data"]["status"] == "idle"
        await client.expect_nothing(1.1)


@contextmanager
def no_database_for(role: str, admin_url: str) -> Iterator[None]:
    """Make the database unavailable for one role: end its sessions and reject new ones."""
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute(f"ALTER ROLE {role} NOLOGIN".encode())
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [role])
        try:
            yield
        finally:
            admin.execute(f"ALTER ROLE {role} LOGIN".encode())


async def test_server_recovers_from_a_database_outage(
    start_server: StartServer, postgres_url: Callable[[], str]
) -> None:
    writers = start_server(database="postgres", started=False, publish_timeout_seconds=PUBLISH_TIMEOUT_SECONDS)
    admin_url, role = postgres_url(), "server_of_this_test"
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {role} SUPERUSER LOGIN PASSWORD 'x'".encode())
    url = psycopg.conninfo.conninfo_to_dict(writers.database_url)
    server_url = f"postgresql://{role}:x@/{url['dbname']}?host={url['host']}" + (
        f"&port={url['port']}" if "port" in url else ""
    )
    server = start_server(
        beside=writers,
        environment={"DATABASE_URL": server_url},
        publish_timeout_seconds=PUBLISH_TIMEOUT_SECONDS,
        relay_poll_seconds=RELAY_POLL_SECONDS,
    )
    prepare(writers)
    async with connect(server) as client, connect(server) as requester:
        await subscribe_to_all(client)
        start = committed(writers, "global")[-1][0]
        async with recording(client) as record:
            with streaming(writers):
                await record.until_fast()
                with no_database_for(role, admin_url):
                    # The channel layer alone suffices while it loses nothing.
                    await record.until_fast()
                    assert (await requester.request("get_pool_status", pool_id="p1"))["error_code"] == "SERVER_ERROR"
                    writers.valkey.kill()
                await record.more(60)
                writers.valkey.start()
                await record.until_fast()
            await assert_all_received(writers, record, after=start)
    log = server.log_text()
    assert "failed; answered SERVER_ERROR: database unavailable" in log
    assert "Traceback" not in log
