"""The login of a person as a credential of the API: for the server's own pages, and for no page of another site."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from tests.api.http_calls import Answered, call
from tests.connection.test_logins import DEACTIVATE, log_in
from tests.harness.browser import open_page
from tests.harness.fixtures import StartServer
from tests.harness.ports import HOST
from tests.harness.server import MahavishnuServer
from tests.harness.tokens import REQUIRES_AUTH, token

CSRF_TOKEN = "c" * 32
PASSWORD = "Wrq-7712-xyzzy"
CREATE_USER = """
from django.contrib.auth.models import User
User.objects.create_superuser(name, password=password)
"""
LOG_OUT = """
from django.contrib.sessions.models import Session
Session.objects.filter(pk=key).delete()
"""
STATUS = """
from orchestration.models import Pool
result = Pool.objects.get(pk=pool_id).status
"""

Unique = Callable[[str], str]


def call_as_page(
    server: MahavishnuServer,
    method: str,
    path: str,
    body: object = None,
    *,
    cookie: str,
    token: str | None = None,
    **changed: str | None,
) -> Answered:
    """Call the API as a page of the server does; None removes a header. `_` in a name stands for `-`."""
    csrf_name = cookie.partition("=")[0].replace("session", "csrf")
    headers: dict[str, str | None] = {
        "Cookie": f"{cookie}; {csrf_name}={CSRF_TOKEN}",
        "Origin": server.http_url,
        "Sec-Fetch-Site": "same-origin",
        "X-CSRFToken": CSRF_TOKEN,
        **{name.replace("_", "-"): value for name, value in changed.items()},
    }
    sent = {name: value for name, value in headers.items() if value is not None}
    return call(server, method, path, body, token=token, headers=sent)


@pytest.fixture
def pool_id(closed_server: MahavishnuServer, unique: Unique) -> str:
    pool_id = unique("pool")
    closed_server.services.create_pool(pool_id=pool_id)
    return pool_id


def test_login_reads_and_operates_what_its_user_may(closed_server: MahavishnuServer, pool_id: str) -> None:
    reader = log_in(closed_server, "reader", "view_pool")
    operator = log_in(closed_server, "operator", "view_pool", "change_workflow")
    assert call_as_page(closed_server, "GET", f"pools/{pool_id}", cookie=reader).status == 200
    assert call_as_page(closed_server, "GET", "workflows", cookie=reader).code == "FORBIDDEN"
    assert call_as_page(closed_server, "POST", f"pools/{pool_id}/drain", cookie=reader).code == "FORBIDDEN"
    assert call_as_page(closed_server, "POST", f"pools/{pool_id}/drain", cookie=operator).body["changed"] is True
    assert f"operated (drain pool:{pool_id}) by user 'operator', token None" in closed_server.log_text()


@pytest.mark.parametrize(
    ("changed", "status", "code"),
    [
        ({"X_CSRFToken": None}, 403, "CSRF_FAILED"),
        ({"X_CSRFToken": ""}, 403, "CSRF_FAILED"),
        ({"X_CSRFToken": "d" * 32}, 403, "CSRF_FAILED"),
        ({"Origin": None}, 403, "CSRF_FAILED"),
        ({"Origin": "https://evil.example"}, 403, "FOREIGN_ORIGIN"),
        ({"Origin": "http://127.0.0.1:5000"}, 403, "FOREIGN_ORIGIN"),
        ({"Origin": "null"}, 403, "FOREIGN_ORIGIN"),
        ({"Sec_Fetch_Site": "same-site"}, 401, "AUTH_REQUIRED"),
        ({"Sec_Fetch_Site": "cross-site"}, 401, "AUTH_REQUIRED"),
        ({"Sec_Fetch_Site": None}, 200, None),
    ],
)
def test_change_needs_the_origin_and_the_token_of_a_page(
    closed_server: MahavishnuServer, pool_id: str, changed: dict[str, Any], status: int, code: str | None
) -> None:
    cookie = log_in(closed_server, "root", is_superuser=True)
    answer = call_as_page(closed_server, "POST", f"pools/{pool_id}/drain", cookie=cookie, **changed)
    assert (answer.status, answer.code) == (status, code)
    stored = closed_server.services_driver.execute(STATUS, pool_id=pool_id)
    assert stored == ("active" if code else "draining")


def test_change_without_the_cookie_of_the_token_is_refused(closed_server: MahavishnuServer, pool_id: str) -> None:
    cookie = log_in(closed_server, "root", is_superuser=True)
    answer = call_as_page(closed_server, "POST", f"pools/{pool_id}/drain", cookie=cookie, Cookie=cookie)
    assert (answer.status, answer.code) == (403, "CSRF_FAILED")
    assert "csrf.failed (The header `X-CSRFToken` lacks the token" in closed_server.log_text()


@pytest.mark.parametrize(
    "changed",
    [
        {"Origin": "https://evil.example"},
        {"Sec_Fetch_Site": "cross-site", "Origin": None},
        {"Sec_Fetch_Site": "same-site", "Origin": None},
    ],
)
def test_login_does_not_count_in_a_read_of_another_site(
    closed_server: MahavishnuServer, changed: dict[str, Any]
) -> None:
    cookie = log_in(closed_server, "root", is_superuser=True)
    answer = call_as_page(closed_server, "GET", "pools", cookie=cookie, **changed)
    assert (answer.status, answer.code) == (401, "AUTH_REQUIRED")
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_person_may_open_a_read_by_its_address(closed_server: MahavishnuServer) -> None:
    cookie = log_in(closed_server, "root", is_superuser=True)
    answer = call_as_page(closed_server, "GET", "pools", cookie=cookie, Sec_Fetch_Site="none", Origin=None)
    assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store")


def test_token_counts_if_there_is_a_login_too(closed_server: MahavishnuServer, pool_id: str) -> None:
    cookie = log_in(closed_server, "root", is_superuser=True)
    small = token("pool:read", user_id="ada")
    answer = call_as_page(closed_server, "GET", "permissions", cookie=cookie, token=small)
    assert answer.body["user"] == "ada"
    assert call_as_page(closed_server, "POST", f"pools/{pool_id}/drain", cookie=cookie, token=small).code == "FORBIDDEN"
    assert call_as_page(closed_server, "GET", "pools", cookie=cookie, token="bad").code == "AUTH_FAILED"


def test_login_that_has_ended_is_refused(closed_server: MahavishnuServer, pool_id: str) -> None:
    cookie = log_in(closed_server, "left", is_superuser=True)
    assert call_as_page(closed_server, "GET", "pools", cookie=cookie).status == 200
    closed_server.services_driver.execute(LOG_OUT, key=cookie.partition("=")[2])
    for method, path in (("GET", "pools"), ("POST", f"pools/{pool_id}/drain")):
        answer = call_as_page(closed_server, method, path, cookie=cookie)
        assert (answer.status, answer.code) == (401, "AUTH_REQUIRED")
    closed = log_in(closed_server, "closed", is_superuser=True)
    closed_server.services_driver.execute(DEACTIVATE, name="closed")
    assert call_as_page(closed_server, "GET", "pools", cookie=closed).code == "AUTH_REQUIRED"


def test_open_server_needs_and_reads_no_login(server: MahavishnuServer) -> None:
    cookie = log_in(server, "someone")
    answer = call_as_page(server, "GET", "permissions?resource=pool:p", cookie=cookie)
    assert answer.body == {
        "user": "",
        "read": ["pool:p"],
        "operate": ["pool:p"],
        "read_all": True,
        "operate_all": True,
    }


def test_login_counts_under_a_prefix_and_on_the_port_of_pages(start_server: StartServer) -> None:
    environment = {**REQUIRES_AUTH, "MAHAVISHNU_PATH_PREFIX": "/mv", "MAHAVISHNU_SERVES": "pages"}
    server = start_server(environment=environment)
    server.services.create_pool(pool_id="p")
    cookie = log_in(server, "root", is_superuser=True)
    published: Any = SimpleNamespace(http_url=f"{server.http_url}/mv")
    # The other server process has the WebSocket, and another port.
    for origin, code in ((f"http://127.0.0.1:{server.port + 1}", "FOREIGN_ORIGIN"), (server.http_url, None)):
        answer = call_as_page(published, "POST", "pools/p/drain", cookie=cookie, Origin=origin)
        assert answer.code == code
    assert answer.body["changed"] is True


def test_permissions_are_those_of_the_user_and_reveal_nothing(closed_server: MahavishnuServer, pool_id: str) -> None:
    given = [f"pool:{pool_id}", "pool:no", "workflow:mine-1", "worker:w", "definition:mine-2", "definition:demo_retry"]
    query = "&".join(f"resource={each}" for each in given)
    answer = call(
        closed_server,
        "GET",
        f"permissions?{query}",
        token=token("pool:read", "workflow:read:mine-*", "operate:mine-*", user_id="ada"),
    )
    assert answer.body == {
        "user": "ada",
        "read": [f"pool:{pool_id}", "pool:no", "workflow:mine-1"],
        "operate": ["workflow:mine-1", "definition:mine-2"],
        "read_all": False,
        "operate_all": False,
    }
    everything = call(closed_server, "GET", f"permissions?{query}", token=token("admin", user_id="root")).body
    assert (everything["read"], everything["operate"], everything["operate_all"]) == (given, given, True)


@pytest.mark.parametrize(
    "query",
    ["resource=pool", "resource=pool:", "resource=event:x", "resources=pool:p", "&".join(["resource=pool:p"] * 201)],
)
def test_permissions_refuse_what_is_no_resource(closed_server: MahavishnuServer, query: str) -> None:
    answer = call(closed_server, "GET", f"permissions?{query}", token=token("admin"))
    assert (answer.status, answer.code) == (422, "INVALID_PARAMETERS")
    assert call(closed_server, "GET", "permissions").code == "AUTH_REQUIRED"


ATTACK = """async ([address, poolId]) => {
    const attempts = {
        simple: { method: "POST", mode: "no-cors" },
        text: { method: "POST", mode: "no-cors", body: "{}", headers: { "Content-Type": "text/plain" } },
        json: { method: "POST", body: "{}", headers: { "Content-Type": "application/json" } },
        token: { method: "POST", headers: { "X-CSRFToken": "c".repeat(32) } },
        read: { path: "pools" },
    };
    const readable = [];
    for (const [name, { path, ...options }] of Object.entries(attempts)) {
        const url = `${address}/api/v1/${path ?? `pools/${poolId}/drain`}`;
        // An answer without CORS headers is an error, or opaque: then its status is 0.
        const answer = await fetch(url, { credentials: "include", ...options }).catch(() => ({ status: 0 }));
        if (answer.status) readable.push([name, answer.status]);
    }
    return readable;
}"""
OPERATE = """async ([path, withToken]) => {
    const { csrf_token } = JSON.parse(document.getElementById("page-settings").textContent);
    const answer = await fetch(path, { method: "POST", headers: withToken ? { "X-CSRFToken": csrf_token } : {} });
    return [answer.status, (await answer.json()).code ?? null];
}"""


class ForeignPage(BaseHTTPRequestHandler):
    """An empty page without any policy."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<title>Foreign</title><link rel=icon href='data:,'>")

    def log_message(self, format: str, *args: Any) -> None:
        """Write nothing."""


@contextmanager
def foreign_site() -> Iterator[int]:
    """Serve a page of another site, and give its port."""
    with ThreadingHTTPServer((HOST, 0), ForeignPage) as site:
        thread = threading.Thread(target=site.serve_forever)
        thread.start()
        yield site.server_address[1]
        site.shutdown()
        thread.join()


async def log_in_by_form(page: Page, name: str) -> None:
    await page.get_by_label("Username").fill(name)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Log in").click()


@pytest.mark.browser
async def test_page_operates_and_pages_of_other_sites_do_not(
    closed_server: MahavishnuServer, pool_id: str, browser: Browser, unique: Unique
) -> None:
    server, name = closed_server, unique("user")
    server.services_driver.execute(CREATE_USER, name=name, password=PASSWORD)
    allowed = ["status of 40", "CORS policy", "ERR_FAILED"]
    with foreign_site() as port:
        async with open_page(browser, f"{server.http_url}/", allowed_errors=allowed) as page:
            await log_in_by_form(page, name)
            await expect(page.locator("body")).to_have_attribute("data-connection", "live")
            # Browsers add the cookie to requests of the first: cookies ignore ports. The second is another site.
            for host in ("127.0.0.1", "localhost"):
                await page.goto(f"http://{host}:{port}/")
                assert await page.evaluate(ATTACK, [server.http_url, pool_id]) == []
                assert server.services_driver.execute(STATUS, pool_id=pool_id) == "active"
            # The requests without a preflight have reached the server.
            assert f"Forbidden: /api/v1/pools/{pool_id}/drain" in server.log_text()
            await page.goto(f"{server.http_url}/")
            path = f"/api/v1/pools/{pool_id}/drain"
            assert await page.evaluate(OPERATE, [path, False]) == [403, "CSRF_FAILED"]
            assert await page.evaluate(OPERATE, [path, True]) == [200, None]
            assert server.services_driver.execute(STATUS, pool_id=pool_id) == "draining"


def test_document_names_both_credentials(closed_server: MahavishnuServer) -> None:
    with urllib.request.urlopen(f"{closed_server.http_url}/api/openapi.json", timeout=20) as answer:
        document = json.load(answer)
    assert document["components"]["securitySchemes"]["Login"]["in"] == "cookie"
    drain = document["paths"]["/api/v1/pools/{pool_id}/drain"]["post"]
    assert drain["security"] == [{"Bearer": []}, {"Login": []}, {}]
