"""A token in the URL of a page: refused by every door, and in no log."""

from __future__ import annotations

import http.client

import pytest

from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer
from tests.harness.tokens import REQUIRES_AUTH, token

PATHS = (
    "/",
    "/health",
    "/admin/",
    "/admin/login/",
    "/login",
    "/admin/realtime/event/",
    "/static/dashboard/shell.css",
    "/api/docs",
    "/api/openapi.json",
    "/api/v1/pools",
    "/nothing",
)


@pytest.fixture(scope="module", params=["", "/mv"], ids=["no prefix", "prefix"])
def prefixed(request: pytest.FixtureRequest, start_module_server: StartServer) -> tuple[MahavishnuServer, str]:
    prefix: str = request.param
    return start_module_server(environment=REQUIRES_AUTH | {"MAHAVISHNU_PATH_PREFIX": prefix}), prefix


def ask(server: MahavishnuServer, method: str, target: str) -> tuple[int, http.client.HTTPMessage, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        connection.request(method, target)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()
    finally:
        connection.close()


def test_token_in_the_url_is_refused_by_every_page_and_logged_nowhere(prefixed: tuple[MahavishnuServer, str]) -> None:
    server, prefix = prefixed
    secret = token("admin", user_id="unlogged")
    for path in PATHS:
        for query in ("token=x", "a=1&ACCESS_TOKEN=x", f"access_token={secret}", f"q={secret}"):
            status, headers, body = ask(server, "GET", f"{prefix}{path}?{query}")
            assert status == 400, (path, query, body)
            assert "A token must not be in a URL, which ends up in logs: send it in the header" in body
            is_api = path.startswith("/api/")
            kind = "application/problem+json" if is_api else "text/plain; charset=utf-8"
            assert (headers["Content-Type"], headers["Cache-Control"]) == (kind, "no-store")
            assert secret not in f"{headers}{body}"
    assert ask(server, "HEAD", f"{prefix}/?token=x")[::2] == (400, "")
    assert ask(server, "POST", f"{prefix}/admin/login/?next=/&token=x")[0] == 400
    log = server.log_text()
    assert "Refused a request from 127.0.0.1:" in log
    assert ": a token in the URL" in log
    for part in secret.split("."):
        assert part not in log


def test_other_queries_reach_the_pages(prefixed: tuple[MahavishnuServer, str]) -> None:
    server, prefix = prefixed
    status, headers, _ = ask(server, "GET", f"{prefix}/?channel=workflow:token")
    assert (status, headers["Location"]) == (302, f"{prefix}/login?next={prefix}/%3Fchannel%3Dworkflow%3Atoken")
    assert ask(server, "GET", f"{prefix}/health?a=1")[0] == 200
