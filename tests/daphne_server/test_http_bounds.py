"""Bounds on what an HTTP client sends before any view runs: bodies, headers, targets, handshakes, connections."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from tests.connection.raw_client import HANDSHAKE
from tests.daphne_server.endpoints import run_command, write_certificate
from tests.harness.fixtures import StartServer
from tests.harness.ports import HOST, free_port
from tests.harness.server import MahavishnuServer
from tests.harness.waiting import eventually

TIMEOUT_SECONDS = 40
MAX_BODY_BYTES = 1024 * 1024
HUGE_BYTES = 192 * 1024 * 1024
SMALL_MEMORY_BYTES = 24 * 1024 * 1024


@asynccontextmanager
async def open_http(server: MahavishnuServer) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(HOST, server.port)
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            yield reader, writer
    finally:
        writer.transport.abort()


async def answer_to(server: MahavishnuServer, *data: bytes) -> bytes:
    """Send data and return all that the server answers until it closes its side."""
    async with open_http(server) as (reader, writer):
        for part in data:
            writer.write(part)
        return await reader.read()


def get(path: bytes, *headers: bytes, version: bytes = b"1.1") -> bytes:
    """Return a request after which the server closes the connection."""
    lines = [b"GET " + path + b" HTTP/" + version, b"Host: localhost", b"Connection: close", *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def memory_bytes(server: MahavishnuServer) -> int:
    return int(psutil.Process(server.pid).memory_info().rss)


UPGRADE = HANDSHAKE.removesuffix(b"\r\n")

REJECTED = {
    "a body of 192 MiB": (b"POST /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % HUGE_BYTES, 413),
    "a body of one byte too many": (
        b"POST /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1),
        413,
    ),
    "a length of 5000 digits": (
        b"POST /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        413,
    ),
    "a body that waits for 100 Continue": (
        b"POST /health HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % HUGE_BYTES,
        413,
    ),
    "a handshake with a body": (UPGRADE + b"Content-Length: 1\r\n\r\n", 400),
    "a handshake with a huge body": (UPGRADE + b"Content-Length: %d\r\n\r\n" % HUGE_BYTES, 400),
    "a handshake with a chunked body": (UPGRADE + b"Transfer-Encoding: chunked\r\n\r\n", 400),
    "a handshake in HTTP/1.0": (HANDSHAKE.replace(b"HTTP/1.1", b"HTTP/1.0"), 400),
    "a handshake of version 8": (HANDSHAKE.replace(b"Version: 13", b"Version: 8"), 400),
}


@pytest.mark.parametrize(("request_head", "status"), REJECTED.values(), ids=list(REJECTED))
async def test_request_is_rejected_after_its_headers(
    server: MahavishnuServer, request_head: bytes, status: int
) -> None:
    # Part of the body follows at once: it must not keep the answer from the client.
    answer = await answer_to(server, request_head, b"x" * 300_000)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert answer.count(b"HTTP/1.1") == 1
    if status == 413:
        assert problem_code(answer) == "BODY_TOO_BIG"


def problem_code(answer: bytes) -> object:
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert {b"Content-Type: application/problem+json", b"Content-Length: %d" % len(body)} <= set(lines)
    return json.loads(body)["code"]


async def test_rejected_head_has_no_body(server: MahavishnuServer) -> None:
    answer = await answer_to(server, REJECTED["a body of 192 MiB"][0].replace(b"POST", b"HEAD"))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.endswith(b"\r\n\r\n")
    assert b"Content-Length: 0" not in answer


async def test_chunked_body_is_rejected_when_it_exceeds_the_limit(server: MahavishnuServer) -> None:
    before = memory_bytes(server)
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    async with open_http(server) as (reader, writer):
        writer.write(b"POST /health HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        answer = asyncio.create_task(reader.read())
        sent_bytes = 0
        while not answer.done():
            writer.write(chunk)
            await writer.drain()
            sent_bytes += len(chunk)
            assert sent_bytes < HUGE_BYTES
        assert (await answer).startswith(b"HTTP/1.1 413 ")
        assert problem_code(await answer) == "BODY_TOO_BIG"
    assert memory_bytes(server) - before < SMALL_MEMORY_BYTES


async def test_body_of_the_maximum_size_reaches_the_view(server: MahavishnuServer) -> None:
    body = b"x" * MAX_BODY_BYTES
    head = b"POST /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    assert (await answer_to(server, head, body)).startswith(b"HTTP/1.1 405 ")
    half = len(body) // 2
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[: half - 100], body[half:], b""))
    head = b"POST /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert (await answer_to(server, head, chunks)).startswith(b"HTTP/1.1 405 ")


async def test_rejected_client_that_keeps_sending_is_dropped(server: MahavishnuServer) -> None:
    async with open_http(server) as (reader, writer):
        writer.write(REJECTED["a body of 192 MiB"][0])
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 413 ")
        before = memory_bytes(server)
        with pytest.raises(ConnectionError):
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()
                await asyncio.sleep(0.01)
        assert memory_bytes(server) - before < SMALL_MEMORY_BYTES


async def test_client_cannot_move_the_paths_that_a_proxy_guards(server: MahavishnuServer) -> None:
    for header in (b"Daphne-Root-Path: /x", b"daphne-root-path:/x", b"Daphne-Root-Path: \xff", b"Daphne_Root_Path: /x"):
        assert (await answer_to(server, get(b"/x/admin/login/", header))).startswith(b"HTTP/1.1 404 "), header
        handshake = UPGRADE + header + b"\r\n\r\n"
        async with open_http(server) as (reader, writer):
            writer.write(handshake)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 "), header


HEADERS_THAT_ARE_NOT_OURS = [
    "Cookie: name=Å".encode(),
    b"Cookie: name=\x0b\x0c",
    "X-Forwarded-For: Å".encode(),
    b"X-Forwarded-For: \xff",
    b"X-Forwarded-Proto: \xff",
    "X-Name: Ünïcödé \u2028".encode(),
    b"Referer: \xff\x85",
    b"Sec-WebSocket-Protocol: \xff",
    b"Accept-Language: \xff",
]


@pytest.mark.parametrize("header", HEADERS_THAT_ARE_NOT_OURS)
async def test_header_with_other_bytes_costs_nothing(server: MahavishnuServer, header: bytes) -> None:
    assert (await answer_to(server, get(b"/", header))).startswith(b"HTTP/1.1 200 ")
    async with open_http(server) as (reader, writer):
        writer.write(UPGRADE + header + b"\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")


async def test_header_cannot_smuggle_another_one(server: MahavishnuServer) -> None:
    for line_break in b"\x0b\x0c\x1c\x1d\x1e\x85":
        handshake = UPGRADE + b"X-A: b" + bytes([line_break]) + b"Origin: https://evil.example\r\n\r\n"
        async with open_http(server) as (reader, writer):
            writer.write(handshake)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")


async def test_absolute_request_target_is_served(server: MahavishnuServer) -> None:
    answer = await answer_to(server, get(b"http://localhost/health?x=1"))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert (await answer_to(server, get(b"http://localhost"))).startswith(b"HTTP/1.1 200 ")
    for target in (b"http://[/", b"http://\xff/", b"http://localhost:x/", b"http://"):
        assert (await answer_to(server, get(target))).startswith(b"HTTP/1.1 400 "), target
    # Its host counts, not that of the header.
    assert (await answer_to(server, get(b"http://evil.example/"))).startswith(b"HTTP/1.1 400 ")
    async with open_http(server) as (reader, writer):
        writer.write(HANDSHAKE.replace(b"GET / ", b"GET http://127.0.0.1/ws "))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")


async def test_client_that_closes_its_side_gets_its_answer(server: MahavishnuServer) -> None:
    async with open_http(server) as (reader, writer):
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        writer.write_eof()
        answer = await reader.read()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert json.loads(body)["status"] == "healthy"


async def test_client_that_closes_its_side_without_a_request_is_closed(server: MahavishnuServer) -> None:
    for part in (b"", b"GET /health HT"):
        async with open_http(server) as (reader, writer):
            writer.write(part)
            writer.write_eof()
            assert await reader.read() == b""


async def test_answers_do_not_name_the_server_software(server: MahavishnuServer) -> None:
    for request in (get(b"/"), get(b"/health"), get(b"/nothing"), UPGRADE + b"Content-Length: 1\r\n\r\n"):
        assert b"\r\nserver:" not in (await answer_to(server, request)).lower()
    for handshake in (HANDSHAKE, HANDSHAKE.replace(b"Version: 13", b"Version: 8")):
        async with open_http(server) as (reader, writer):
            writer.write(handshake)
            assert b"\r\nserver:" not in (await reader.readuntil(b"\r\n\r\n")).lower()


async def test_further_http_connections_are_rejected_until_one_ends(start_server: StartServer) -> None:
    few = start_server(max_http_connections=3, http_idle_timeout_seconds=3600)
    async with open_http(few), open_http(few), open_http(few) as (reader, writer):
        answer = await answer_to(few, get(b"/health"))
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: 1\r\n" in answer
        # A WebSocket is no HTTP connection.
        writer.write(HANDSHAKE)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        assert (await answer_to(few, get(b"/health"))).startswith(b"HTTP/1.1 200 ")

    def accepts_three() -> bool:
        others = [socket.create_connection((HOST, few.port)) for _ in range(3)]
        try:
            others[-1].sendall(get(b"/health"))
            return others[-1].recv(13) == b"HTTP/1.1 200 "
        finally:
            for other in others:
                other.close()

    await eventually(accepts_three, within_seconds=TIMEOUT_SECONDS, what="the end of the three connections")


async def test_unfinished_tls_handshake_is_dropped_in_time(server: MahavishnuServer, tmp_path: Path) -> None:
    certificate, plain, tls = write_certificate(tmp_path), free_port(), free_port()
    endpoint = f"ssl:port={tls}:interface={HOST}:privateKey={certificate}:certKey={certificate}"
    command = ("daphne", "--port", str(plain), "--bind", HOST, "--endpoint", endpoint, "--verbosity", "0")
    with run_command(
        server, *command, "mahavishnu_site.asgi:application", port=plain, MAHAVISHNU_OPEN_TIMEOUT_SECONDS="1"
    ):
        for client_hello in (b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"):
            began = time.monotonic()  # The server may accept before `open_connection` returns.
            reader, writer = await asyncio.open_connection(HOST, tls)
            writer.write(client_hello)
            with pytest.raises(ConnectionResetError):
                await reader.read()
            assert time.monotonic() - began >= 1
            writer.transport.abort()


async def test_idle_http_connection_is_closed(start_server: StartServer) -> None:
    server = start_server(http_idle_timeout_seconds=1)
    async with open_http(server) as (reader, writer):
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        assert json.loads(await reader.read())["status"] == "healthy"
