"""Requests that try to name another host, to hide a second request, to leave the site, or to cost much."""

from __future__ import annotations

import json
import re

import pytest

from tests.connection.raw_client import HANDSHAKE, text
from tests.daphne_server.test_http_bounds import answer_to, get, open_http
from tests.harness.server import MahavishnuServer

FORGED_HOSTS = [
    b"evil.example",
    b"evil.example:80",
    b"localhost.evil.example",
    b"evil.example#localhost",
    b"evil.example@localhost",
    b"localhost@evil.example",
    b"evil.example\\localhost",
    b"localhost:80@evil.example",
    b"localhost,evil.example",
    b"[::1].evil.example",
    b"localhost:80:80",
    b"",
]
PAGES = (b"/", b"/health", b"/admin/login/")


def status_of(answer: bytes) -> int:
    found = re.match(rb"HTTP/1\.1 (\d{3}) ", answer)
    assert found is not None, answer[:200]
    return int(found[1])


def with_host(request: bytes, host: bytes) -> bytes:
    return re.sub(rb"Host: [^\r]*", lambda _: b"Host: " + host, request)


@pytest.mark.parametrize("host", FORGED_HOSTS)
async def test_forged_host_is_answered_400_and_opens_no_websocket(server: MahavishnuServer, host: bytes) -> None:
    for page in PAGES:
        answer = await answer_to(server, with_host(get(page), host))
        assert (page, status_of(answer)) == (page, 400)
        assert b"evil" not in answer
    # DNS rebinding: the page and the host of its WebSocket have the same foreign name.
    rebound = with_host(HANDSHAKE, host).removesuffix(b"\r\n") + b"Origin: http://" + host + b"\r\n\r\n"
    async with open_http(server) as (reader, writer):
        writer.write(rebound)
        assert status_of(await reader.readuntil(b"\r\n\r\n")) in (400, 421)


async def test_second_host_header_changes_nothing(server: MahavishnuServer) -> None:
    for first, second in ((b"localhost", b"evil.example"), (b"evil.example", b"localhost")):
        answer = await answer_to(server, with_host(get(b"/", b"X: y"), first).replace(b"X: y", b"Host: " + second))
        assert b"evil" not in answer
        assert status_of(answer) == 400 or first == b"localhost"


@pytest.mark.parametrize(
    "header", [b"X-Forwarded-Host: evil.example", b"Forwarded: host=evil.example", b"X-Original-URL: //evil.example"]
)
async def test_no_redirect_leaves_the_site(server: MahavishnuServer, header: bytes) -> None:
    targets = (
        b"/admin",
        b"/admin/",
        b"/admin/logout/?next=//evil.example/",
        b"/admin/login/?next=https://evil.example/",
        b"//evil.example/%2f..",
        b"/%5cevil.example/admin",
        b"/admin/%0d%0aLocation:%20https://evil.example/",
        b"/admin%0d%0aSet-Cookie:%20a=b",
    )
    for target in targets:
        head = (await answer_to(server, get(target, header))).partition(b"\r\n\r\n")[0]
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"location":
                assert re.fullmatch(rb"\s*/(?![/\\])[^\\]*", value), (target, value)
            assert not line.startswith((b"Set-Cookie: a=b", b"Location: https://evil"))


@pytest.mark.parametrize(
    "path",
    [
        b"/static/../settings.py",
        b"/static/%2e%2e/%2e%2e/etc/passwd",
        b"/static/..%2f..%2fetc/passwd",
        b"/static//etc/passwd",
        b"/static/realtime/../../../manage.py",
        b"/static/%00",
        b"/static/realtime/%2e%2e%5c%2e%2e%5cmanage.py",
    ],
)
async def test_static_path_serves_no_other_file(server: MahavishnuServer, path: bytes) -> None:
    answer = await answer_to(server, get(path))
    assert status_of(answer) in (400, 404)
    assert b"root:" not in answer
    assert b"DJANGO_SETTINGS_MODULE" not in answer


SECOND_REQUEST = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /health HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"

AMBIGUOUS = {
    "chunked and a length": POST + CHUNKED + b"Content-Length: 4\r\n\r\n0\r\n\r\n" + SECOND_REQUEST,
    "a length and chunked": POST + b"Content-Length: 4\r\n" + CHUNKED + b"\r\n0\r\n\r\n" + SECOND_REQUEST,
    "two lengths": POST + b"Content-Length: 0\r\nContent-Length: 44\r\n\r\n" + SECOND_REQUEST,
    "a list of lengths": POST + b"Content-Length: 0, 44\r\n\r\n" + SECOND_REQUEST,
    "a length with a sign": POST + b"Content-Length: +0\r\n\r\n" + SECOND_REQUEST,
    "a negative length": POST + b"Content-Length: -1\r\n\r\n" + SECOND_REQUEST,
    "a length with an underscore": POST + b"Content-Length: 1_0\r\n\r\n" + SECOND_REQUEST,
    "an unknown encoding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SECOND_REQUEST,
    "a space before the colon": POST + b"Content-Length : 44\r\n\r\n" + SECOND_REQUEST,
    "a folded header": POST + b"X-A: b\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SECOND_REQUEST,
}


@pytest.mark.parametrize("request_bytes", AMBIGUOUS.values(), ids=list(AMBIGUOUS))
async def test_request_of_unclear_length_hides_no_second_one(server: MahavishnuServer, request_bytes: bytes) -> None:
    async with open_http(server) as (reader, writer):
        writer.write(request_bytes + get(b"/health"))
        answers = await reader.read()
    # Refused and closed, or the rest is no request and closes. Read as two requests, both are seen, and none is hidden.
    statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)]
    assert statuses in ([], [400], [413], [501], [405], [405, 400], [405, 404, 200]), answers[:500]


@pytest.mark.parametrize(
    "headers",
    [
        b"X-A: b\r\n" * 501,
        b"X-A: " + b"b" * 17 * 1024 + b"\r\n",
        b"X-A: " + b"b" * 1024 * 1024 + b"\r\n",
    ],
    ids=["501 headers", "a header of 17 KiB", "a header of 1 MiB"],
)
async def test_too_many_or_too_long_headers_are_refused(server: MahavishnuServer, headers: bytes) -> None:
    for request in (get(b"/health"), HANDSHAKE):
        async with open_http(server) as (reader, writer):
            writer.write(request.removesuffix(b"\r\n") + headers + b"\r\n")
            try:
                answer = await reader.read()
            except ConnectionResetError:
                answer = b""  # It closed before it had read everything.
        assert answer == b"" or status_of(answer) in (400, 431)


async def test_compression_that_a_client_offers_is_not_used(server: MahavishnuServer) -> None:
    """It would cost memory for each client, and let a page guess what else is in a frame."""
    offer = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x-webkit-deflate-frame\r\n\r\n"
    async with open_http(server) as (reader, writer):
        writer.write(HANDSHAKE.removesuffix(b"\r\n") + offer)
        head = await reader.readuntil(b"\r\n\r\n")
    assert status_of(head) == 101
    assert b"extensions" not in head.lower()
    head = (await answer_to(server, get(b"/health", b"Accept-Encoding: gzip, deflate, br"))).partition(b"\r\n\r\n")[0]
    assert b"content-encoding" not in head.lower()


async def test_pipelined_requests_are_answered_one_after_another(server: MahavishnuServer) -> None:
    count = 50
    one = b"GET /health?%d HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with open_http(server) as (reader, writer):
        writer.write(b"".join(one % number for number in range(count)) + get(b"/nothing"))
        answers = await reader.read()
    statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)]
    assert statuses == [200] * count + [404]


async def test_status_queries_in_one_write_are_each_answered(server: MahavishnuServer) -> None:
    queries = [
        text(
            json.dumps({"type": "request", "event": "get_pool_status", "data": {"pool_id": "none"}, "id": str(number)})
        )
        for number in range(140)
    ]
    async with open_http(server) as (reader, writer):
        writer.write(HANDSHAKE)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"".join(queries))
        received, answered = b"", 0
        while answered < len(queries):
            received += await reader.read(65536)
            answered = received.count(b'"correlation_id":"')
        assert received.count(b"NOT_FOUND") == len(queries)
