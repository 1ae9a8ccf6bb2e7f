"""What the API refuses from every client, and the problems that it answers with."""

from __future__ import annotations

from http.client import HTTPConnection

import pytest

from tests.api.http_calls import call
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Content-Type": "text/plain"}, 415, "UNSUPPORTED_MEDIA_TYPE"),
        ({"Content-Type": "application/json; charset=utf-8"}, 415, "UNSUPPORTED_MEDIA_TYPE"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415, "UNSUPPORTED_MEDIA_TYPE"),
        ({"Content-Encoding": "gzip"}, 415, "UNSUPPORTED_MEDIA_TYPE"),
        ({"Origin": "http://evil.example"}, 403, "FOREIGN_ORIGIN"),
        ({"Origin": "http://localhost:1"}, 403, "FOREIGN_ORIGIN"),
        ({"Origin": "null"}, 403, "FOREIGN_ORIGIN"),
        ({"Host": "evil.example"}, 400, "INVALID_REQUEST"),
        ({"Host": "evil.example", "Origin": "http://evil.example"}, 400, "INVALID_REQUEST"),
        ({"Content-Type": "APPLICATION/JSON"}, 404, "NOT_FOUND"),
        ({}, 404, "NOT_FOUND"),
    ],
    ids=str,
)
def test_body_and_origin_are_checked_before_a_change(
    server: MahavishnuServer, headers: dict[str, str], status: int, code: str
) -> None:
    answer = call(server, "POST", "workflows/no/cancel", {}, headers=headers)
    assert (answer.status, answer.code) == (status, code)


def test_chunked_body_needs_a_type(server: MahavishnuServer) -> None:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        connection.request("POST", "/api/v1/workflows/no/cancel", body=iter([b"{}"]), encode_chunked=True)
        assert connection.getresponse().status == 415
    finally:
        connection.close()


def test_own_origin_may_change(server: MahavishnuServer) -> None:
    answer = call(server, "POST", "workflows/no/cancel", {}, headers={"Origin": server.http_url})
    assert answer.code == "NOT_FOUND"


@pytest.mark.parametrize(
    ("body", "code", "path"),
    [
        (b"{", "INVALID_JSON", None),
        (b"\xff", "INVALID_JSON", None),
        (b'{"name": NaN}', "INVALID_JSON", None),
        (rb'{"\ud800": 1}', "INVALID_JSON", None),
        (rb'{"name": "no\ud83d\ude00"}', "NOT_FOUND", None),
        (b'{"name": "demo_retry", "name": "x"}', "INVALID_JSON", None),
        (b'{"name": "demo_retry", "params": ' + b'{"a":' * 40 + b"1" + b"}" * 41, "INVALID_JSON", None),
        (b"[" * 20_000, "INVALID_JSON", None),
        (b"[" + b"{}," * 20_000 + b"{}]", "INVALID_JSON", None),
        (b"[]", "INVALID_PARAMETERS", "body"),
        (b"{}", "INVALID_PARAMETERS", "body.name"),
        (b'{"name": 1}', "INVALID_PARAMETERS", "body.name"),
        (b'{"name": "x", "paramz": {}}', "INVALID_PARAMETERS", "body.paramz"),
        (b'{"name": "x", "pool_id": "a b"}', "INVALID_PARAMETERS", "body.pool_id"),
        (b'{"name": "demo_retry", "params": {"zz": 1}}', "INVALID_PARAMETERS", "body.params"),
        (b'{"name": "demo_retry", "params": {"failures": "x"}}', "INVALID_PARAMETERS", "body.params"),
        (b'{"name": "no such workflow"}', "NOT_FOUND", None),
    ],
    ids=lambda value: str(value)[:40],
)
def test_body_that_is_refused_says_where_and_what_is_expected(
    server: MahavishnuServer, body: bytes, code: str, path: str | None
) -> None:
    answer = call(server, "POST", "workflows", body)
    assert answer.code == code
    assert {"type", "title", "status", "detail", "code"} <= set(answer.body)
    assert answer.body["status"] == answer.status
    if path is not None:
        assert path in [error["path"] for error in answer.body["errors"]]
        assert all(error["detail"] for error in answer.body["errors"])


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("workflows?limit=0", "INVALID_PARAMETERS"),
        ("workflows?limit=201", "INVALID_PARAMETERS"),
        ("workflows?stauts=failed", "INVALID_PARAMETERS"),
        ("workflows?status=no", "INVALID_PARAMETERS"),
        ("workflows?from=2026-01-01", "INVALID_PARAMETERS"),
        ("workflows?from=0001-01-01T00:00:00%2B14:00", "INVALID_PARAMETERS"),
        ("workflows?cursor=x", "INVALID_PARAMETERS"),
        ("pools?cursor=%00", "INVALID_PARAMETERS"),
        ("events?channel=global&before=1&after=1", "INVALID_PARAMETERS"),
        ("events?channel=a:b", "INVALID_CHANNEL"),
        ("events", "INVALID_PARAMETERS"),
        ("workflows?" + "&".join(["status=failed"] * 1001), "INVALID_REQUEST"),
        ("workflows?token=x", "TOKEN_IN_QUERY"),
        ("workflows?ACCESS_TOKEN=x", "TOKEN_IN_QUERY"),
        ("workflows?q=eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjF9.c2ln", "TOKEN_IN_QUERY"),
        ("definitions?x=1", "INVALID_PARAMETERS"),
        ("workflows/%F0%9F%98%80", "NOT_FOUND"),
        ("nothing", "NOT_FOUND"),
    ],
)
def test_query_that_is_refused_has_a_code(server: MahavishnuServer, path: str, code: str) -> None:
    assert call(server, "GET", path).code == code


def test_method_that_a_path_does_not_have_is_answered_with_those_it_has(server: MahavishnuServer) -> None:
    answer = call(server, "DELETE", "workflows")
    assert (answer.status, answer.code) == (405, "METHOD_NOT_ALLOWED")
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "POST"}
    assert call(server, "GET", "workflows/x/cancel").headers["Allow"] == "POST"


@pytest.mark.parametrize("headers", [{"X-Forwarded-For": "203.0.113.5"}, {"Forwarded": "for=203.0.113.5"}], ids=str)
@pytest.mark.parametrize("trusted", ["127.0.0.0/8", "192.0.2.7"])
def test_client_from_elsewhere_may_read_and_changes_nothing(
    start_module_server: StartServer, headers: dict[str, str], trusted: str
) -> None:
    server = start_module_server(
        environment={"MAHAVISHNU_OPEN_TO_EVERYONE": "1", "MAHAVISHNU_TRUSTED_PROXIES": trusted}
    )
    assert call(server, "GET", "pools", headers=headers).status == 200
    assert call(server, "POST", "pools/no/drain", headers=headers).code == "FORBIDDEN"


def test_client_that_asks_too_often_or_for_too_much_is_answered_with_a_pause(start_server: StartServer) -> None:
    server = start_server(
        max_messages_per_second=0.5, max_message_burst=4, max_replay_burst_bytes=1, max_replay_bytes_per_second=1
    )
    server.services.create_pool(pool_id="p")
    assert call(server, "GET", "pools").status == 200
    answer = call(server, "GET", "pools?limit=1")
    assert (answer.status, answer.code) == (429, "RATE_LIMIT_EXCEEDED")
    assert int(answer.headers["Retry-After"]) >= 1
    codes = [call(server, "POST", "pools/no/drain").code for _ in range(4)]
    assert codes[0] == "NOT_FOUND"
    assert codes[-1] == "RATE_LIMIT_EXCEEDED"


def test_process_of_websockets_answers_421(start_server: StartServer) -> None:
    server = start_server(environment={"MAHAVISHNU_SERVES": "websocket"})
    assert call(server, "GET", "workflows").status == 421
