"""Every error code a client can get, and every way to cause it. Each message is answered and the connection lives.

`tests/protocol` covers the decoding in full; here the same errors reach a client.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from realtime.protocol.requests import REQUESTS
from tests.harness.client import connect
from tests.harness.fixtures import StartServer
from tests.harness.health import read_health
from tests.harness.matchers import a_pong, a_response, an_error, an_event
from tests.harness.server import MahavishnuServer
from tests.harness.table_lock import workflows_locked

KNOWN_REQUESTS = ", ".join(REQUESTS)
BINARY = "Binary messages are not supported; send JSON as text"


def request(event: str, **data: Any) -> dict[str, Any]:
    return {"type": "request", "event": event, "data": data, "id": "a"}


def unknown_request(name: str) -> dict[str, Any]:
    message = f"Unknown request {name!r}: expected one of {KNOWN_REQUESTS}"
    return an_error("UNKNOWN_REQUEST", message, event=name, correlation_id="a")


def not_found(event: str, kind: str, id: str) -> dict[str, Any]:
    return an_error("NOT_FOUND", f"{kind.capitalize()} {id!r} not found", event=event, correlation_id="a")


def invalid(message: str, event: str = "error", correlation_id: str | None = None) -> dict[str, Any]:
    return an_error("INVALID_MESSAGE", message, event=event, correlation_id=correlation_id)


ERRORS: dict[str, tuple[Any, dict[str, Any]]] = {
    "an unknown request": (request("restart"), unknown_request("restart")),
    "a request of another case": (request("SUBSCRIBE", channel="global"), unknown_request("SUBSCRIBE")),
    "a request named like an event": (request("workflow.started"), unknown_request("workflow.started")),
    "a request without a name": (request(""), {**unknown_request(""), "event": "error"}),
    "an unknown workflow": (
        request("get_workflow_status", workflow_id="nowhere"),
        not_found("get_workflow_status", "workflow", "nowhere"),
    ),
    "an unknown pool": (
        request("get_pool_status", pool_id="nowhere"),
        not_found("get_pool_status", "pool", "nowhere"),
    ),
    "an empty workflow_id": (
        request("get_workflow_status", workflow_id=""),
        not_found("get_workflow_status", "workflow", ""),
    ),
    "an id with a null character": (
        request("get_pool_status", pool_id="a\x00b"),
        not_found("get_pool_status", "pool", "a\x00b"),
    ),
    "an id longer than allowed": (
        request("get_workflow_status", workflow_id="é" * 5_000),
        not_found("get_workflow_status", "workflow", "é" * 128),
    ),
    "an id with a quote in it": (
        request("get_workflow_status", workflow_id="' OR 1=1 --"),
        not_found("get_workflow_status", "workflow", "' OR 1=1 --"),
    ),
    "a channel of no known kind": (
        request("subscribe", channel="session:a"),
        an_error(
            "INVALID_CHANNEL",
            "Invalid channel name 'session:a': expected 'global', 'summary', or 'workflow:', 'pool:' or 'worker:' "
            "followed by an id (1 to 128 of the characters A-Z a-z 0-9 . _ -); "
            "for the items of a stage, 'workflow:', the id, '/' and the percent-encoded name of the stage",
            event="subscribe",
            correlation_id="a",
        ),
    ),
    "bad JSON": ("{", invalid("The message is not valid JSON: Input data was truncated")),
    "no JSON": ("hello", invalid("The message is not valid JSON: invalid character (byte 0)")),
    "deep nesting": ("[" * 65_536, invalid("The message is not valid JSON: nested too deeply")),
    "an array": ("[]", invalid("Expected a JSON object, got an array")),
    "binary": (b"\x00\xff", invalid(BINARY)),
    "JSON in a binary message": (b'{"type":"ping"}', invalid(BINARY)),
    "no type": ({"id": "a"}, invalid("Object missing required field `type`", correlation_id="a")),
    "an unknown type": (
        {"type": "hello", "event": "x", "id": "a"},
        invalid("Unknown message type 'hello': expected 'request' or 'ping'", "x", "a"),
    ),
    "an event": (
        {"type": "event", "event": "workflow.started", "data": {"workflow_id": "w"}, "room": "global"},
        invalid("Clients cannot publish events: expected type 'request' or 'ping'", "workflow.started"),
    ),
    "a request without an event": (
        {"type": "request", "data": {}},
        invalid("Missing field `event`: expected a string"),
    ),
    "a request without data": (
        {"type": "request", "event": "subscribe", "id": "a"},
        invalid("Missing field `data`: expected an object", "subscribe", "a"),
    ),
    "a missing field": (
        request("get_pool_status", workflow_id="w"),
        invalid("Object missing required field `pool_id` in `data`", "get_pool_status", "a"),
    ),
    "a field of another type": (
        request("subscribe", channel="global", since="1"),
        invalid("Expected `int | null`, got `str` in `data.since`", "subscribe", "a"),
    ),
}


async def test_invalid_message_is_answered_and_the_connection_stays_open(server_on_both: MahavishnuServer) -> None:
    log_before = server_on_both.log_text()
    async with connect(server_on_both) as client:
        for name, (message, expected) in ERRORS.items():
            await client.send_raw(message if isinstance(message, str | bytes) else json.dumps(message))
            assert (name, await client.next()) == (name, expected)
        await client.send({"type": "ping"})
        assert await client.next() == a_pong()
    assert "Traceback" not in server_on_both.log_text().removeprefix(log_before)


# A missing table is the quickest way to cause a server error.
HIDE_TABLES = """
from django.db import connection
with connection.cursor() as cursor:
    for table in tables:
        cursor.execute(f"ALTER TABLE {table} RENAME TO {table}_hidden")
"""
SHOW_TABLES = HIDE_TABLES.replace("{table} RENAME TO {table}_hidden", "{table}_hidden RENAME TO {table}")
TABLES = ["orchestration_pool", "orchestration_workflow", "realtime_log"]


@pytest.fixture(scope="module")
def faulty_server(start_module_server: StartServer) -> MahavishnuServer:
    """Start a server on Postgres whose requests time out after four seconds."""
    server = start_module_server(database="postgres", request_timeout_seconds=4)
    # Start the driver process before any test measures time.
    server.services.create_pool(pool_id="first")
    return server


def server_error(event: str) -> dict[str, Any]:
    return an_error("SERVER_ERROR", "Internal server error", event=event, correlation_id="a", retryable=True)


async def test_server_error_is_detailed_only_in_the_log(faulty_server: MahavishnuServer) -> None:
    requests = [
        request("get_pool_status", pool_id="p"),
        request("get_workflow_status", workflow_id="w"),
        request("subscribe", channel="pool:p"),
        request("subscribe", channel="pool:p", since=0),
        request("subscribe", channel="pool:p", snapshot=True),
    ]
    async with connect(faulty_server) as client:
        log_before = faulty_server.log_text()
        faulty_server.services_driver.execute(HIDE_TABLES, tables=TABLES)
        try:
            for message in requests:
                await client.send(message)
                assert await client.next() == server_error(message["event"])
        finally:
            faulty_server.services_driver.execute(SHOW_TABLES, tables=TABLES)
        log = faulty_server.log_text().removeprefix(log_before)
        assert log.count("Traceback") >= len(requests)
        connection = f"connection {client.welcome['data']['connection_id']} from "
        for message in requests:
            assert re.search(
                rf"Request {message['event']} on {connection}\S+ failed; answered SERVER_ERROR$", log, re.M
            )
        await client.send(request("get_pool_status", pool_id="p"))
        assert await client.next() == not_found("get_pool_status", "pool", "p")


async def test_failed_subscribe_leaves_no_subscription(
    faulty_server: MahavishnuServer, unique: Callable[[str], str]
) -> None:
    pool_id = unique("pool")
    async with connect(faulty_server) as client:
        await client.subscribe(f"pool:{pool_id}")
        faulty_server.services_driver.execute(HIDE_TABLES, tables=["realtime_log"])
        try:
            await client.send(request("subscribe", channel=f"pool:{pool_id}", since=0))
            assert await client.next() == server_error("subscribe")
        finally:
            faulty_server.services_driver.execute(SHOW_TABLES, tables=["realtime_log"])
        await client.subscribe("global")
        faulty_server.services.create_pool(pool_id=pool_id)
        assert (await client.next())["room"] == "global"
        await client.unsubscribe("global")
        # It is not in `channels` either: this subscribe is a new one.
        await client.subscribe(f"pool:{pool_id}")
        faulty_server.services.drain_pool(pool_id=pool_id)
        assert (await client.next())["event"] == "pool.drained"


async def test_request_timeout_is_answered_and_delays_no_event(
    faulty_server: MahavishnuServer, unique: Callable[[str], str]
) -> None:
    pool_id = unique("pool")
    log_before = faulty_server.log_text()
    async with connect(faulty_server) as client:
        await client.subscribe(f"pool:{pool_id}")
        with workflows_locked(faulty_server):
            await client.send(request("get_workflow_status", workflow_id="w"))
            faulty_server.services.create_pool(pool_id=pool_id)
            event = await client.next()
            assert event == an_event(
                "pool.created", {"pool_id": pool_id, "timestamp": event["timestamp"]}, room=f"pool:{pool_id}"
            )
            assert await client.next() == server_error("get_workflow_status")
        await client.send(request("get_workflow_status", workflow_id="w"))
        assert await client.next() == not_found("get_workflow_status", "workflow", "w")
        host, port = client.connection.local_address
        log = faulty_server.log_text().removeprefix(log_before)
        assert "Traceback" not in log
        (line,) = [line for line in log.splitlines() if "timed out" in line]
        assert "WARNING" in line
        assert line.endswith(
            "Request get_workflow_status timed out after 4 s on connection "
            f"{client.welcome['data']['connection_id']} from {host}:{port}; answered SERVER_ERROR"
        )


async def test_message_after_sixteen_requests_in_flight_waits_for_an_answer(
    faulty_server: MahavishnuServer,
) -> None:
    async with connect(faulty_server) as client:
        with workflows_locked(faulty_server):
            for number in range(15):
                await client.send({**request("get_workflow_status", workflow_id="w"), "id": str(number)})
            await client.send({"type": "ping", "id": "with 15 in flight"})
            assert await client.next() == a_pong("with 15 in flight")
            await client.send({**request("get_workflow_status", workflow_id="w"), "id": "15"})
            await client.send({"type": "ping", "id": "with 16 in flight"})
            answers = [await client.next() for _ in range(17)]
    assert answers[0]["error_code"] == "SERVER_ERROR"
    assert a_pong("with 16 in flight") in answers[1:]


async def test_server_without_its_tables_answers_server_error_until_they_exist(start_server: StartServer) -> None:
    server = start_server(started=False)
    server.services_driver.execute(HIDE_TABLES, tables=TABLES)
    server.start()
    async with connect(server) as client:
        # Sent instead of `session.created`.
        assert client.welcome == an_error("SERVER_ERROR", "Internal server error", retryable=True)
        assert await client.wait_closed() == (1011, "SERVER_ERROR")
    assert read_health(server)[1]["connections"] == 0
    server.services_driver.execute(SHOW_TABLES, tables=TABLES)
    async with connect(server) as client:
        assert client.welcome["event"] == "session.created"
        answer = await client.request("subscribe", channel="global")
        assert answer == a_response(
            "subscribe", {"channel": "global", "status": "subscribed"}, answer["correlation_id"]
        )
