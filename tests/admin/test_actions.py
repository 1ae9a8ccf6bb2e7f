"""Admin actions: they change rows through the services, and subscribers receive the events."""

from __future__ import annotations

import html
import http.cookiejar
import re
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Literal

import pytest
from playwright.async_api import Browser, Page, expect

from tests.events.event_cases import NEW_WORKER
from tests.harness.browser import open_page
from tests.harness.client import connect
from tests.harness.matchers import A_TIME, an_event
from tests.harness.server import MahavishnuServer

Unique = Callable[[str], str]

PASSWORD = "correct horse battery staple"
CREATE_OPERATOR = """
from django.contrib.auth.models import User
User.objects.create_superuser(name, password=password)
"""
HISTORY = """
from django.contrib.admin.models import LogEntry
result = [(entry.user.username, entry.object_id, entry.change_message) for entry in LogEntry.objects.order_by("pk")
          if entry.object_id in ids]
"""


class Session:
    """An HTTP client with cookies that sends the forms of the admin."""

    def __init__(self, server: MahavishnuServer) -> None:
        self._url = server.http_url
        self._cookies = http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self._cookies))

    def get(self, path: str) -> str:
        with self._opener.open(self._url + path, timeout=60) as response:
            text: str = response.read().decode()
            return text

    def post(self, path: str, **fields: str | list[str]) -> tuple[str, str]:
        """Send a form, follow redirects, and return the final path and page."""
        token = next(cookie.value for cookie in self._cookies if "csrf" in cookie.name)
        body = urllib.parse.urlencode({"csrfmiddlewaretoken": token, **fields}, doseq=True).encode()
        with self._opener.open(self._url + path, data=body, timeout=60) as response:
            return urllib.parse.urlsplit(response.url).path, response.read().decode()

    def run_action(self, model: str, action: str, ids: list[str], **fields: str) -> tuple[str, list[tuple[str, str]]]:
        """Run an action of a list on some rows; return the final path, and the messages shown there."""
        path, page = self.post(
            f"/admin/orchestration/{model}/", action=action, _selected_action=ids, index="0", **fields
        )
        messages = re.findall(r'<li class="(success|error|warning)">(.*?)</li>', page)
        return path, [(kind, html.unescape(text)) for kind, text in messages]


@pytest.fixture(scope="session")
def operator(server: MahavishnuServer) -> str:
    """Create a superuser and return the name."""
    server.services_driver.execute(CREATE_OPERATOR, name="operator", password=PASSWORD)
    return "operator"


@pytest.fixture
def session(server: MahavishnuServer, operator: str) -> Session:
    """Return a session that is logged in."""
    session = Session(server)
    session.get("/admin/login/")
    path, _ = session.post("/admin/login/", username=operator, password=PASSWORD, next="/admin/")
    assert path == "/admin/"
    return session


def create_workflows(server: MahavishnuServer, *ids: str) -> None:
    for id in ids:
        server.services.create_workflow(workflow_id=id, adapter="python", prompt="", stages=["only"])


async def test_cancel_action_emits_events_and_lists_errors(
    server: MahavishnuServer, session: Session, unique: Unique
) -> None:
    first, finished, second = ids = [unique("wf") for _ in range(3)]
    create_workflows(server, *ids)
    server.services.cancel_workflow(workflow_id=finished)
    async with connect(server) as client:
        for id in ids:
            await client.subscribe(f"workflow:{id}")
        path, messages = session.run_action("workflow", "cancel_workflows", ids)
        received = {message["room"]: message for message in await client.events(2)}
        await client.expect_nothing(0.2)
    assert received == {
        f"workflow:{id}": an_event(
            "workflow.cancelled",
            {"workflow_id": id, "name": "", "reason": "Cancelled by an operator", "timestamp": A_TIME},
            room=f"workflow:{id}",
        )
        for id in (first, second)
    }
    assert path == "/admin/orchestration/workflow/"
    assert sorted(messages) == [
        (
            "error",
            f"Refused: Workflow {finished} has status cancelled and cannot become cancelled; allowed: no other status.",
        ),
        # In list order: newest first.
        ("success", f"Cancelled: {second}, {first}."),
    ]
    history = server.services_driver.execute(HISTORY, ids=ids)
    assert history == [["operator", id, "Cancelled."] for id in (second, first)]


async def test_worker_and_pool_actions_emit_events(server: MahavishnuServer, session: Session, unique: Unique) -> None:
    pool_id, worker_id = unique("pool"), unique("worker")
    server.services.create_pool(pool_id=pool_id)
    server.services.register_worker(worker_id=worker_id, pool_id=pool_id)
    async with connect(server) as client:
        await client.subscribe(f"worker:{worker_id}")
        await client.subscribe("global")
        offline = session.run_action("worker", "mark_workers_offline", [worker_id])
        data = {"worker_id": worker_id, "status": "offline", "pool_id": pool_id, **NEW_WORKER, "timestamp": A_TIME}
        assert await client.event("worker.status_changed") == an_event(
            "worker.status_changed", data, room=f"worker:{worker_id}"
        )
        drained = session.run_action("pool", "drain_pools", [pool_id])
        assert await client.event("pool.drained") == an_event(
            "pool.drained", {"pool_id": pool_id, "timestamp": A_TIME}, room="global"
        )
        again = session.run_action("pool", "drain_pools", [pool_id])
        reopened = session.run_action("pool", "reopen_pools", [pool_id])
        assert await client.event("pool.reopened") == an_event(
            "pool.reopened", {"pool_id": pool_id, "timestamp": A_TIME}, room="global"
        )
    assert offline == ("/admin/orchestration/worker/", [("success", f"Marked offline: {worker_id}.")])
    assert drained == ("/admin/orchestration/pool/", [("success", f"Draining: {pool_id}.")])
    reason = f"Pool {pool_id} has status draining and cannot become draining; allowed: active, closed."
    assert again == ("/admin/orchestration/pool/", [("error", f"Refused: {reason}")])
    assert reopened == ("/admin/orchestration/pool/", [("success", f"Reopened: {pool_id}.")])


def test_action_message_lists_the_first_twenty_ids(server: MahavishnuServer, session: Session, unique: Unique) -> None:
    ids = [unique("wf") for _ in range(23)]
    create_workflows(server, *ids)
    _, messages = session.run_action("workflow", "cancel_workflows", ids)
    assert messages == [("success", f"Cancelled: {', '.join(ids[:2:-1])}, and 3 more.")]


async def log_in(page: Page, operator: str) -> None:
    await page.get_by_label("Username").fill(operator)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Log in").click()


@pytest.mark.browser
async def test_cancel_button_on_workflow_page_cancels_the_workflow(
    server: MahavishnuServer, operator: str, browser: Browser, unique: Unique
) -> None:
    workflow_id = unique("wf")
    create_workflows(server, workflow_id)
    path = f"/admin/orchestration/workflow/{workflow_id.replace('_', '_5F')}/change/"
    async with connect(server) as client, open_page(browser, f"{server.http_url}{path}") as page:
        await client.subscribe(f"workflow:{workflow_id}")
        await log_in(page, operator)
        await expect(page).to_have_title(f"{workflow_id} | Workflow | Mahavishnu")
        await page.get_by_role("button", name="Cancel this workflow").click()
        await expect(page.locator(".messagelist")).to_have_text(f"Cancelled: {workflow_id}.")
        assert page.url == f"{server.http_url}{path}"
        await expect(page.locator(".facts .status").first).to_have_text("⊘ cancelled")
        await expect(page.get_by_role("button", name="Cancel this workflow")).to_have_count(0)
        assert (await client.next())["event"] == "workflow.cancelled"
        await page.locator(".object-tools").get_by_role("link", name="Events").click()
        await expect(page.locator("#result_list .field-name")).to_have_text(["workflow.cancelled", "workflow.created"])


@pytest.mark.browser
async def test_longest_id_fits_the_page_width(server: MahavishnuServer, operator: str, browser: Browser) -> None:
    id = "x" * 128
    server.services.create_pool(pool_id=id)
    server.services.register_worker(worker_id=id, pool_id=id)
    server.services.create_workflow(workflow_id=id, adapter="python", prompt="", stages=[id], pool_id=id)
    async with open_page(browser, f"{server.http_url}/admin/orchestration/workflow/{id}/change/") as page:
        await log_in(page, operator)
        for model in ("workflow", "pool", "worker"):
            await page.goto(f"{server.http_url}/admin/orchestration/{model}/{id}/change/")
            await expect(page).to_have_title(f"{id} | {model.capitalize()} | Mahavishnu")
            width, room = await page.evaluate("[document.documentElement.scrollWidth, document.body.clientWidth]")
            assert width <= room, model


# The contrast of text against its background (WCAG 2.2, 1.4.3), for a badge of each style in the style sheet.
CONTRASTS = """() => {
  const luminance = ([r, g, b]) => {
    const [R, G, B] = [r, g, b].map(v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * R + .7152 * G + .0722 * B;
  };
  const painted = (color, under) => {
    const [r, g, b, alpha = 1] = color.match(/[\\d.]+/g).map(Number);
    return [r, g, b].map((value, i) => value * alpha + under[i] * (1 - alpha));
  };
  const page = painted(getComputedStyle(document.body).backgroundColor, [255, 255, 255]);
  const names = ["neutral", "waiting", "running", "success", "failure", "timeout", "cancelled"];
  return Object.fromEntries(names.map(name => {
    const badge = document.createElement("span");
    badge.className = `status status-${name}`;
    document.getElementById("content").append(badge);
    const style = getComputedStyle(badge);
    const under = painted(style.backgroundColor, page);
    const [light, dark] = [luminance(painted(style.color, under)), luminance(under)].sort((a, b) => b - a);
    return [name, (light + .05) / (dark + .05)];
  }));
}"""


BACKGROUNDS: dict[Literal["light", "dark"], str] = {"light": "rgb(255, 255, 255)", "dark": "rgb(14, 17, 22)"}


@pytest.mark.browser
async def test_status_badges_have_enough_contrast(server: MahavishnuServer, operator: str, browser: Browser) -> None:
    async with open_page(browser, f"{server.http_url}/admin/orchestration/workflow/") as page:
        await log_in(page, operator)
        for scheme, color in BACKGROUNDS.items():
            await page.emulate_media(color_scheme=scheme)
            await page.reload()
            await expect(page).to_have_title("Workflows | Mahavishnu")
            await page.wait_for_load_state()
            contrasts = await page.evaluate(CONTRASTS)
            assert {name: contrast for name, contrast in contrasts.items() if contrast < 4.5} == {}, scheme
            assert len(contrasts) == 7
            assert await page.evaluate("getComputedStyle(document.body).backgroundColor") == color
