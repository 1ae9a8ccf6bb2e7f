"""What an operator does in the admin: the services do it, and whoever subscribes hears of it at once."""

from __future__ import annotations

import html
import http.cookiejar
import re
import urllib.parse
import urllib.request
from collections.abc import Callable

import pytest
from playwright.async_api import Page, expect

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
    """A browser without a screen: cookies, forms and pages over HTTP."""

    def __init__(self, server: MahavishnuServer) -> None:
        self._url = server.http_url
        self._cookies = http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self._cookies))

    def get(self, path: str) -> str:
        with self._opener.open(self._url + path, timeout=60) as answer:
            text: str = answer.read().decode()
            return text

    def post(self, path: str, **fields: str | list[str]) -> tuple[str, str]:
        """Send a form, follow where it leads, and return the path and the page."""
        token = next(cookie.value for cookie in self._cookies if "csrf" in cookie.name)
        body = urllib.parse.urlencode({"csrfmiddlewaretoken": token, **fields}, doseq=True).encode()
        with self._opener.open(self._url + path, data=body, timeout=60) as answer:
            return urllib.parse.urlsplit(answer.url).path, answer.read().decode()

    def act(self, model: str, action: str, ids: list[str], **fields: str) -> tuple[str, list[tuple[str, str]]]:
        """Carry out an action of a list on some of its rows; the path it leads to, and the messages there."""
        path, page = self.post(
            f"/admin/orchestration/{model}/", action=action, _selected_action=ids, index="0", **fields
        )
        messages = re.findall(r'<li class="(success|error|warning)">(.*?)</li>', page)
        return path, [(kind, html.unescape(text)) for kind, text in messages]


@pytest.fixture(scope="session")
def operator(server: MahavishnuServer) -> str:
    """The name of a person who may do everything."""
    server.services_driver.execute(CREATE_OPERATOR, name="operator", password=PASSWORD)
    return "operator"


@pytest.fixture
def session(server: MahavishnuServer, operator: str) -> Session:
    """Logged in."""
    session = Session(server)
    session.get("/admin/login/")
    path, _ = session.post("/admin/login/", username=operator, password=PASSWORD, next="/admin/")
    assert path == "/admin/"
    return session


def create_workflows(server: MahavishnuServer, *ids: str) -> None:
    for id in ids:
        server.services.create_workflow(workflow_id=id, adapter="python", prompt="", stages=["only"])


async def test_cancelling_workflows_is_heard_and_each_refusal_is_told(
    server: MahavishnuServer, session: Session, unique: Unique
) -> None:
    first, finished, second = ids = [unique("wf") for _ in range(3)]
    create_workflows(server, *ids)
    server.services.cancel_workflow(workflow_id=finished)
    async with connect(server) as client:
        for id in ids:
            await client.subscribe(f"workflow:{id}")
        path, messages = session.act("workflow", "cancel_workflows", ids)
        received = {message["room"]: message for message in await client.events(2)}
        await client.expect_nothing(0.2)
    assert received == {
        f"workflow:{id}": an_event(
            "workflow.cancelled",
            {"workflow_id": id, "reason": "Cancelled by an operator", "timestamp": A_TIME},
            room=f"workflow:{id}",
        )
        for id in (first, second)
    }
    assert path == "/admin/orchestration/workflow/"
    assert sorted(messages) == [
        (
            "error",
            f"Refused: The workflow {finished} is cancelled and cannot become cancelled; "
            "after cancelled, nothing may follow.",
        ),
        # In the order of the list: newest first.
        ("success", f"Cancelled: {second}, {first}."),
    ]
    history = server.services_driver.execute(HISTORY, ids=ids)
    assert history == [["operator", id, "Cancelled."] for id in (second, first)]


async def test_workers_go_offline_and_pools_drain_and_reopen_and_it_is_heard(
    server: MahavishnuServer, session: Session, unique: Unique
) -> None:
    pool_id, worker_id = unique("pool"), unique("worker")
    server.services.create_pool(pool_id=pool_id)
    server.services.register_worker(worker_id=worker_id, pool_id=pool_id)
    async with connect(server) as client:
        await client.subscribe(f"worker:{worker_id}")
        await client.subscribe("global")
        offline = session.act("worker", "mark_workers_offline", [worker_id])
        data = {"worker_id": worker_id, "status": "offline", "pool_id": pool_id, "timestamp": A_TIME}
        assert await client.event("worker.status_changed") == an_event(
            "worker.status_changed", data, room=f"worker:{worker_id}"
        )
        drained = session.act("pool", "drain_pools", [pool_id])
        assert await client.event("pool.drained") == an_event(
            "pool.drained", {"pool_id": pool_id, "timestamp": A_TIME}, room="global"
        )
        again = session.act("pool", "drain_pools", [pool_id])
        reopened = session.act("pool", "reopen_pools", [pool_id])
        assert await client.event("pool.reopened") == an_event(
            "pool.reopened", {"pool_id": pool_id, "timestamp": A_TIME}, room="global"
        )
    assert offline == ("/admin/orchestration/worker/", [("success", f"Marked offline: {worker_id}.")])
    assert drained == ("/admin/orchestration/pool/", [("success", f"Draining: {pool_id}.")])
    reason = f"The pool {pool_id} is draining and cannot become draining; after draining, active, closed may follow."
    assert again == ("/admin/orchestration/pool/", [("error", f"Refused: {reason}")])
    assert reopened == ("/admin/orchestration/pool/", [("success", f"Reopened: {pool_id}.")])


def test_of_very_many_the_first_are_told(server: MahavishnuServer, session: Session, unique: Unique) -> None:
    ids = [unique("wf") for _ in range(23)]
    create_workflows(server, *ids)
    _, messages = session.act("workflow", "cancel_workflows", ids)
    assert messages == [("success", f"Cancelled: {', '.join(ids[:2:-1])}, and 3 more.")]


async def log_in(page: Page, operator: str) -> None:
    await page.get_by_label("Username").fill(operator)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Log in").click()


@pytest.mark.browser
async def test_a_button_on_the_page_of_a_workflow_cancels_it(
    server: MahavishnuServer, operator: str, unique: Unique
) -> None:
    workflow_id = unique("wf")
    create_workflows(server, workflow_id)
    path = f"/admin/orchestration/workflow/{workflow_id.replace('_', '_5F')}/change/"
    async with connect(server) as client, open_page(f"{server.http_url}{path}") as page:
        await client.subscribe(f"workflow:{workflow_id}")
        await log_in(page, operator)
        await expect(page).to_have_title(f"{workflow_id} | View workflow | Mahavishnu")
        await page.get_by_role("button", name="Cancel this workflow").click()
        await expect(page.locator(".messagelist")).to_have_text(f"Cancelled: {workflow_id}.")
        assert page.url == f"{server.http_url}{path}"
        await expect(page.locator(".field-state .status").first).to_have_text("cancelled")
        await expect(page.get_by_role("button", name="Cancel this workflow")).to_have_count(0)
        assert (await client.next())["event"] == "workflow.cancelled"
        await page.locator(".object-tools").get_by_role("link", name="Events").click()
        await expect(page.locator("#result_list .field-name")).to_have_text(["workflow.cancelled", "workflow.created"])


@pytest.mark.browser
async def test_the_longest_id_makes_no_page_wider_than_the_window(server: MahavishnuServer, operator: str) -> None:
    id = "x" * 128
    server.services.create_pool(pool_id=id)
    server.services.register_worker(worker_id=id, pool_id=id)
    server.services.create_workflow(workflow_id=id, adapter="python", prompt="", stages=[id], pool_id=id)
    async with open_page(f"{server.http_url}/admin/orchestration/workflow/{id}/change/") as page:
        await log_in(page, operator)
        for model in ("workflow", "pool", "worker"):
            await page.goto(f"{server.http_url}/admin/orchestration/{model}/{id}/change/")
            await expect(page).to_have_title(f"{id} | View {model} | Mahavishnu")
            width, room = await page.evaluate("[document.documentElement.scrollWidth, document.body.clientWidth]")
            assert width <= room, model


# The contrast of text on its own background (WCAG 2.2, 1.4.3), for a badge of each tone that the style sheet has.
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
  return Object.fromEntries(["waits", "works", "good", "warns", "bad", "over"].map(tone => {
    const badge = document.createElement("span");
    badge.className = `status status-${tone}`;
    document.getElementById("content").append(badge);
    const style = getComputedStyle(badge);
    const under = painted(style.backgroundColor, page);
    const [light, dark] = [luminance(painted(style.color, under)), luminance(under)].sort((a, b) => b - a);
    return [tone, (light + .05) / (dark + .05)];
  }));
}"""


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_a_status_can_be_read_in_light_and_in_dark(server: MahavishnuServer, operator: str, scheme: str) -> None:
    async with open_page(f"{server.http_url}/admin/orchestration/workflow/", color_scheme=scheme) as page:
        await log_in(page, operator)
        await expect(page).to_have_title("Select workflow to view | Mahavishnu")
        await page.wait_for_load_state()
        contrasts = await page.evaluate(CONTRASTS)
        background = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert {tone: contrast for tone, contrast in contrasts.items() if contrast < 4.5} == {}
    assert len(contrasts) == 6
    assert background == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(18, 18, 18)")
