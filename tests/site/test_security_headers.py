"""Security headers of every kind of response, and pages that work under them in a real browser."""

from __future__ import annotations

import re
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from mahavishnu_site.csp_settings import POLICY
from mahavishnu_site.security_headers import PERMISSIONS_POLICY
from tests.harness.browser import open_page
from tests.harness.fixtures import StartServer
from tests.harness.ports import HOST
from tests.harness.programs import PROJECT_DIR
from tests.harness.server import MahavishnuServer

CLIENT = "/static/realtime/clients/1.0.0/mahavishnu.js"
PASSWORD = "Wrq-7712-xyzzy"
CREATE_ACCOUNT = f"""
from django.contrib.auth.models import User
User.objects.create_superuser("root", password={PASSWORD!r})
"""
CREATE_STATE = """
from orchestration import services
services.create_pool(pool_id="p")
services.register_worker(worker_id="w", pool_id="p")
services.create_workflow(workflow_id="wf", adapter="python", prompt="Prompt", stages=["one"], pool_id="p")
services.start_workflow(workflow_id="wf")
"""

PACKAGES = [
    PROJECT_DIR / name for name in ("mahavishnu_site", "dashboard", "realtime", "orchestration", "demonstrations")
]
INLINE = r"<style|<script(?![^>]*\ssrc=)|\s(?:style|on\w+)=|javascript:"

VIOLATIONS = ("Content Security Policy", "Content Security policy", "This document requires 'Trusted")
VIOLATE = """() => {
    window.blocked = [];
    addEventListener("securitypolicyviolation", event => blocked.push(event.effectiveDirective));
    const tried = (action) => { try { action(); } catch {} };
    tried(() => document.body.insertAdjacentHTML("beforeend", "<img src='data:,' onerror='document.title = 1'>"));
    tried(() => {
        const script = document.createElement("script");
        script.append("document.title = 2");
        document.body.append(script);
    });
    tried(() => new WebSocket("ws://other.localhost:9"));
    tried(() => trustedTypes.createPolicy("default", { createHTML: (text) => text }));
    tried(() => trustedTypes.createPolicy("lit-html", {}));
}"""


def request(server: MahavishnuServer, path: str, *, host: str | None = None, method: str = "GET") -> HTTPResponse:
    connection = HTTPConnection(HOST, server.port, timeout=60)
    connection.request(method, path, headers={} if host is None else {"Host": host})
    response = connection.getresponse()
    response.read()
    connection.close()
    return response


@pytest.mark.parametrize(
    ("path", "host", "status"),
    [
        ("/", None, 200),
        ("/health", None, 200),
        ("/nowhere", None, 404),
        ("/", "evil.example", 400),
        (CLIENT, None, 200),
        ("/static/realtime/nowhere.js", None, 404),
    ],
)
def test_response_has_security_headers(server: MahavishnuServer, path: str, host: str | None, status: int) -> None:
    response = request(server, path, host=host)
    assert response.status == status
    assert response.headers["Content-Security-Policy"] == POLICY
    assert response.headers["Permissions-Policy"] == PERMISSIONS_POLICY
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Server"] is None


def test_exposed_server_redirects_pages_to_https_but_not_health(start_server: StartServer) -> None:
    server = start_server(
        environment={"ALLOWED_HOSTS": "127.0.0.1,mahavishnu.example", "MAHAVISHNU_OPEN_TO_EVERYONE": "1"}
    )
    moved = request(server, "/admin/login/?next=/", host="mahavishnu.example")
    assert (moved.status, moved.headers["Location"]) == (301, "https://mahavishnu.example/admin/login/?next=/")
    assert moved.headers["Content-Security-Policy"] == POLICY
    assert request(server, "/health").status == 200


@pytest.mark.parametrize("path", [path for folder in PACKAGES for path in folder.rglob("*.html")], ids=lambda p: p.name)
def test_template_has_no_inline_scripts_and_styles(path: Path) -> None:
    assert re.findall(INLINE, path.read_text(encoding="utf-8"), re.IGNORECASE) == []


@pytest.mark.browser
async def test_pages_work_under_their_content_security_policy(start_server: StartServer, browser: Browser) -> None:
    server = start_server()
    server.services_driver.execute(CREATE_ACCOUNT)
    server.services_driver.execute(CREATE_STATE)
    async with open_page(browser, "about:blank") as page:
        await page.goto(f"{server.http_url}/")
        await expect(page.locator("body")).to_have_attribute("data-connection", "live")
        await page.goto(f"{server.http_url}/admin/")
        await page.fill("#id_username", "root")
        await page.fill("#id_password", PASSWORD)
        await page.click("[type=submit]")
        await expect(page.locator("#user-tools")).to_contain_text("root")
        lists = await page.locator("#content-main th a").evaluate_all("links => links.map(link => link.href)")
        assert len(lists) >= 7
        for url in lists:
            await page.goto(url)
        for path in ("workflow/wf/change/", "workflow/start/", "pool/p/change/", "pool/p/history/"):
            answer = await page.goto(f"{server.http_url}/admin/orchestration/{path}")
            assert answer is not None
            assert answer.status == 200, path
        await page.goto(f"{server.http_url}/admin/orchestration/pool/")
        await page.locator("#action-toggle").check()
        await expect(page.locator(".action-counter").first).to_contain_text("1 of 1 selected")
        await page.click(".theme-toggle >> visible=true")
        await page.goto(f"{server.http_url}/admin/auth/user/add/")
        await expect(page.locator("#id_username")).to_be_visible()


@pytest.mark.browser
async def test_content_security_policy_blocks_injected_scripts_and_other_hosts(
    server: MahavishnuServer, browser: Browser
) -> None:
    async with open_page(browser, f"{server.http_url}/", allowed_errors=VIOLATIONS) as page:
        await expect(page.locator("body")).to_have_attribute("data-connection", "live")
        title = await page.title()
        await page.evaluate(VIOLATE)
        await page.wait_for_function("blocked.length >= 5")
        assert await page.evaluate("blocked.sort()") == [
            "connect-src",
            *["require-trusted-types-for"] * 2,
            *["trusted-types"] * 2,
        ]
        assert await page.title() == title


@pytest.mark.browser
async def test_policy_of_the_admin_allows_texts_of_jquery_but_no_scripts(
    server: MahavishnuServer, browser: Browser
) -> None:
    policy = request(server, "/admin/login/").headers["Content-Security-Policy"]
    without = [each for each in POLICY.split("; ") if "trusted-types" not in each]
    assert policy.split("; ") == without
    async with open_page(browser, f"{server.http_url}/admin/login/", allowed_errors=VIOLATIONS) as page:
        title = await page.title()
        await page.evaluate(VIOLATE)
        await page.wait_for_function("blocked.length >= 3")
        assert await page.evaluate("blocked.sort()") == ["connect-src", "script-src-attr", "script-src-elem"]
        assert await page.title() == title
