"""Requests from elsewhere to a server that serves only its own machine: refused, because a proxy is in front."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import pytest

from realtime.connection.local_only import local_only
from realtime.exposure import unannounced_proxy
from tests.connection.raw_client import upgrade
from tests.daphne_server.endpoints import status_and_headers
from tests.harness.fixtures import StartServer
from tests.harness.ports import HOST
from tests.harness.server import MahavishnuServer


def handshake_status(server: MahavishnuServer, **headers: str) -> int:
    with socket.create_connection((HOST, server.port), timeout=60) as connection:
        return upgrade(connection, headers)


def test_open_server_refuses_forwarded_requests_and_logs_it_once_a_minute(start_server: StartServer) -> None:
    server = start_server(environment={"MAHAVISHNU_LOG_REPEAT_SECONDS": "60"})
    forwarded = {
        "X-Forwarded-For": "192.0.2.1",
        "Forwarded": "for=192.0.2.1",
        "X-Forwarded-Host": "mahavishnu.example",
        "X-Forwarded-Proto": "https",
    }
    for name, value in forwarded.items():
        for path in ("/health", "/admin/login/"):
            assert status_and_headers(server, path, **{name: value})[0] == HTTPStatus.MISDIRECTED_REQUEST
        assert handshake_status(server, Host=HOST, **{name: value}) == HTTPStatus.MISDIRECTED_REQUEST
    assert handshake_status(server, Host="mahavishnu.example") == HTTPStatus.MISDIRECTED_REQUEST
    assert handshake_status(server, Host=HOST) == HTTPStatus.SWITCHING_PROTOCOLS
    assert status_and_headers(server, "/health")[0] == HTTPStatus.OK
    assert status_and_headers(server, "/health", Host="mahavishnu.example")[0] == 400
    assert server.log_text().count("Refused a request from") == 1


def test_untrusted_peer_is_refused_as_a_trusted_one(start_server: StartServer) -> None:
    server = start_server(environment={"MAHAVISHNU_TRUSTED_PROXIES": "192.0.2.7"})
    assert status_and_headers(server, "/health", **{"X-Forwarded-For": "192.0.2.1"})[0] == 421


def scope(kind: str = "websocket", *headers: tuple[bytes, bytes], server: Any = (HOST, 8690)) -> dict[str, Any]:
    return {"type": kind, "headers": headers, "server": server, "client": (HOST, 5000), "extensions": {}}


@pytest.mark.parametrize(
    ("request_scope", "sign"),
    [
        (scope(), None),
        (scope("websocket", (b"host", b"127.0.0.1:8690")), None),
        (scope("websocket", (b"host", b"[::1]:8690")), None),
        (scope("websocket", (b"host", b"localhost")), None),
        (scope("websocket", (b"host", b"localhost.evil.example")), "host 'localhost.evil.example'"),
        (scope("http", (b"host", b"evil.example")), None),
        (scope("http", (b"x-forwarded-for", b"")), "header x-forwarded-for"),
        (scope("http", server=("192.0.2.1", 8690)), "address 192.0.2.1 of this server"),
        (scope("http", server=("/run/socket", None)), None),
        (scope("http", server=None), None),
    ],
)
def test_unannounced_proxy_is_found_by_its_requests(request_scope: dict[str, Any], sign: str | None) -> None:
    assert unannounced_proxy(request_scope) == sign


async def test_server_without_statuses_for_handshakes_closes_them(settings: Any) -> None:
    sent: list[Mapping[str, Any]] = []

    async def receive() -> None: ...

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    async def application(*_: object) -> None:
        raise AssertionError("the request reaches the application")

    guarded = local_only(application)
    await guarded(scope("websocket", (b"host", b"evil.example")), receive, send)
    assert sent == [{"type": "websocket.close"}]
    settings.MAHAVISHNU_REQUIRE_AUTH = True
    assert local_only(application) is application
