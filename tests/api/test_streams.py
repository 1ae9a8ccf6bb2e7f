"""Stored streams over the API: their bytes, where they begin, and what is refused. Nothing runs here."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import Callable
from contextlib import suppress

import pytest

from realtime.api.event_stream import HEARTBEAT_SECONDS
from tests.api.http_calls import Answered, call
from tests.clients.stored_stream import STORE_STREAM
from tests.connection.raw_client import SMALL_BUFFER_BYTES
from tests.harness.event_source import TIMEOUT_SECONDS, open_events
from tests.harness.fixtures import StartServer
from tests.harness.health import read_health
from tests.harness.ports import HOST
from tests.harness.server import MahavishnuServer
from tests.harness.waiting import eventually, wait_until

CONTENT = "Hello, wörld"
SHA256 = hashlib.sha256(CONTENT.encode()).hexdigest()
LARGE_BYTES = 8 * 1024 * 1024
STORE_LARGE = """
from orchestration.models import StreamContent
content = b"0123456789abcdef" * (size_bytes // 16)
StreamContent.objects.filter(stage__workflow_id=workflow_id).update(
    content=content, stored_bytes=len(content), length=len(content), content_type="bytes")
"""


def store(server: MahavishnuServer, workflow_id: str, *, size_bytes: int = 0) -> str:
    """Store a stream and return its path."""
    server.services_driver.execute(STORE_STREAM, workflow_id=workflow_id)
    if size_bytes:
        server.services_driver.execute(STORE_LARGE, workflow_id=workflow_id, size_bytes=size_bytes)
    return f"workflows/{workflow_id}/stages/answer/streams/reply"


def headers_of(answer: Answered) -> dict[str, str]:
    names = ("Content-Type", "Content-Length", "Cache-Control", "X-Content-Type-Options")
    of_stream = [name for name in answer.headers if name.startswith("Stream-")]
    return {name: answer.headers[name] for name in (*names, *of_stream)}


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("", CONTENT),
        ("?offset=7", "wörld"),
        ("?offset=7&attempt=1", "wörld"),
        ("?offset=7&attempt=2", CONTENT),
        ("?offset=13", ""),
        ("?offset=99", ""),
    ],
)
def test_stored_stream_is_read_from_an_offset_on(
    server: MahavishnuServer, unique: Callable[[str], str], query: str, text: str
) -> None:
    answer = call(server, "GET", f"{store(server, unique('stored'))}{query}")
    assert (answer.status, answer.text) == (200, text)
    assert headers_of(answer) == {
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Length": f"{len(text.encode())}",
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Stream-Attempt": "1",
        "Stream-Status": "completed",
        "Stream-Length": "13",
        "Stream-Sha256": SHA256,
    }


def test_large_stream_of_bytes_comes_whole_and_is_charged(start_server: StartServer) -> None:
    server = start_server()
    path = store(server, "wf", size_bytes=LARGE_BYTES)
    answer = call(server, "GET", path)
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.text == "0123456789abcdef" * (LARGE_BYTES // 16)
    assert call(server, "GET", path).code == "RATE_LIMIT_EXCEEDED"


def test_stage_that_may_still_store_its_stream_is_a_conflict(
    server: MahavishnuServer, unique: Callable[[str], str]
) -> None:
    workflow_id = unique("running")
    services = server.services
    services.create_workflow(workflow_id=workflow_id, adapter="x", prompt="", stages=["a/b", "c"])
    services.start_workflow(workflow_id=workflow_id)
    services.start_stage(workflow_id=workflow_id, stage_name="a/b")
    path = f"workflows/{workflow_id}/stages/a%2Fb/streams/reply"
    running = call(server, "GET", path)
    assert (running.status, running.code) == (409, "CONFLICT")
    assert running.body["detail"] == (
        "Stage 'a/b' is running: a stream is stored when its stage completes; "
        "read it now with `Accept: text/event-stream`"
    )
    services.fail_stage(workflow_id=workflow_id, stage_name="a/b", error="No")
    failed = call(server, "GET", path)
    assert (failed.status, failed.code) == (404, "NOT_FOUND")
    assert failed.body["detail"] == "Stage 'a/b' is failed and has no stored stream 'reply'"


@pytest.mark.parametrize("accept", ["*/*", "text/event-stream"])
@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("workflows/no/stages/a/streams/b", "NOT_FOUND"),
        ("workflows/no/stages/a%00b/streams/b", "NOT_FOUND"),
        ("workflows/a%20b/stages/a/streams/b", "NOT_FOUND"),
        ("workflows/no/stages/a/streams/b%20c", "NOT_FOUND"),
        (f"workflows/no/stages/{'a' * 129}/streams/b", "NOT_FOUND"),
        ("workflows/no/stages/a/streams/b?offset=-1", "INVALID_PARAMETERS"),
        ("workflows/no/stages/a/streams/b?ofset=1", "INVALID_PARAMETERS"),
    ],
)
def test_stream_that_cannot_be_read_is_a_problem(server: MahavishnuServer, path: str, code: str, accept: str) -> None:
    assert call(server, "GET", path, headers={"Accept": accept}).code == code


def test_id_of_an_event_that_is_none_is_refused(server: MahavishnuServer, unique: Callable[[str], str]) -> None:
    headers = {"Accept": "text/event-stream", "Last-Event-ID": "wf-1"}
    answer = call(server, "GET", store(server, unique("id")), headers=headers)
    assert (answer.status, answer.code) == (422, "INVALID_PARAMETERS")
    detail = "expected the `id` of an event of this stream, such as 1-42"
    assert answer.body["errors"] == [{"path": "header.Last-Event-ID", "detail": detail}]


async def test_stored_stream_has_the_same_messages_as_a_running_one(
    server: MahavishnuServer, unique: Callable[[str], str]
) -> None:
    path = store(server, unique("events"))
    async with open_events(server, f"{path}?offset=7", {"Accept": "application/json, text/event-stream"}) as source:
        assert (source.status, source.headers["content-type"]) == (200, "text/event-stream")
        assert source.headers["x-accel-buffering"] == "no"
        chunk, end = await source.event(), await source.event()
        assert await source.next() is None
    assert (chunk.fields["event"], chunk.fields["id"]) == ("stream.chunk", "1-13")
    assert chunk.message["data"] == {"attempt": 1, "offset": 7, "delta": "wörld"}
    assert (end.fields["event"], end.fields["id"]) == ("stream.closed", "1-13-closed")
    assert end.message["data"] == {"attempt": 1, "status": "completed", "length": 13, "sha256": SHA256}
    async with open_events(server, path, {"Last-Event-ID": end.fields["id"]}) as source:
        assert source.status == 204


@pytest.mark.parametrize("accept", ["*/*", "text/event-stream"])
def test_client_that_reads_nothing_is_dropped(start_server: StartServer, accept: str) -> None:
    server = start_server(send_stall_seconds=1.0)
    path = store(server, "wf", size_bytes=LARGE_BYTES)
    with socket.socket() as client:
        client.settimeout(TIMEOUT_SECONDS)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)
        client.connect((HOST, server.port))
        client.sendall(f"GET /api/v1/{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: {accept}\r\n\r\n".encode())
        dropped = "nothing read for 1 s"
        wait_until(lambda: dropped in server.log_text(), timeout_seconds=TIMEOUT_SECONDS, what="the client is dropped")
        received_bytes = 0
        with suppress(ConnectionResetError):
            while part := client.recv(65536):
                received_bytes += len(part)
    assert 0 < received_bytes < LARGE_BYTES // 4
    assert "Traceback" not in server.log_text()


async def test_open_responses_count_as_connections(start_server: StartServer) -> None:
    server = start_server(max_connections=1)
    services = server.services
    services.create_workflow(workflow_id="wf", adapter="x", prompt="", stages=["a"])
    path = "workflows/wf/stages/a/streams/b"
    async with open_events(server, path) as first:
        assert (await first.next()) is not None
        refused = await asyncio.to_thread(call, server, "GET", path, headers={"Accept": "text/event-stream"})
        assert (refused.status, refused.code) == (503, "UNAVAILABLE")
        assert refused.body["detail"] == "Connection limit reached (1); try again later"
    await eventually(lambda: read_health(server)[1]["connections"] == 0, what="the place is free")
    async with open_events(server, path) as second:
        assert (second.status, await second.next() is not None) == (200, True)


async def test_client_that_closes_its_connection_frees_its_place_before_a_heartbeat(start_server: StartServer) -> None:
    server = start_server()
    server.services.create_workflow(workflow_id="wf", adapter="x", prompt="", stages=["a"])
    async with open_events(server, "workflows/wf/stages/a/streams/b") as source:
        assert await source.next() is not None
    await eventually(
        lambda: read_health(server)[1]["connections"] == 0,
        within_seconds=HEARTBEAT_SECONDS * 0.7,
        what="the place is free",
    )


async def test_stopping_server_sends_the_time_to_wait(
    server: MahavishnuServer, start_server: StartServer, unique: Callable[[str], str]
) -> None:
    workflow_id = unique("stopping")
    server.services.create_workflow(workflow_id=workflow_id, adapter="x", prompt="", stages=["a"])
    stopping = start_server(beside=server, drain_timeout_seconds=60.0)
    async with open_events(stopping, f"workflows/{workflow_id}/stages/a/streams/b") as source:
        assert await source.next() is not None
        stopped = asyncio.create_task(asyncio.to_thread(stopping.terminate))
        assert (await source.event()).fields == {"retry": "10"}
        assert await source.next() is None
        assert await stopped == 0
    assert "Traceback" not in stopping.log_text()
