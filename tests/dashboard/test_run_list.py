"""The list of workflows: what it asks of the server, and that it recovers."""

from __future__ import annotations

import asyncio
import re
import signal

import pytest
from playwright.async_api import Browser, Page, Route, expect

from tests.dashboard.connection import expect_pill
from tests.dashboard.reader import SECRETS, log_in_as_reader
from tests.dashboard.stored import STORE_EVERYTHING
from tests.harness.browser import LOST_SERVER, open_page
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer

pytestmark = pytest.mark.browser


MAX_PROXY_LINE_BYTES = 8 * 1024
"""The longest request line that nginx accepts by default."""

STORE_MANY = """
from orchestration import services
for number in range(100):
    services.create_workflow(workflow_id=f"{number:0128}", adapter="python", prompt="", stages=["one"])
"""


def requests_for_lists(page: Page) -> list[str | bytes]:
    """Return a list that gets each request for a list of workflows that the page sends from now on."""
    sent: list[str | bytes] = []
    page.on(
        "websocket",
        lambda socket: socket.on("framesent", lambda frame: sent.append(frame) if "list_workflows" in frame else None),
    )
    return sent


async def test_refused_list_is_asked_for_once(start_server: StartServer, browser: Browser) -> None:
    server = start_server(environment=SECRETS)
    async with open_page(browser, "about:blank") as page:
        await log_in_as_reader(server, page, [])
        sent = requests_for_lists(page)
        await page.goto(f"{server.http_url}/workflows")
        heading = page.get_by_role("heading", name="You may not see the workflows")
        await expect(heading).to_be_visible()
        await expect(page.locator("main .empty")).not_to_contain_text("FORBIDDEN")
        # Each drawing would ask again: there are some until the answer after it.
        await page.get_by_role("button", name="Running").click()
        await expect(page).to_have_url(f"{server.http_url}/workflows?status=running")
        await expect(heading).to_be_visible()
        await page.get_by_role("link", name="Pools").click()
        await expect(page.get_by_role("heading", name="You may not see all pools")).to_be_visible()
        assert len(sent) == 2, sent


async def test_list_whose_answer_was_lost_is_read_when_the_server_is_back(
    start_server: StartServer, browser: Browser
) -> None:
    server = start_server()
    server.services_driver.execute(STORE_EVERYTHING)
    async with open_page(browser, "about:blank", allowed_errors=LOST_SERVER) as page:
        async with page.expect_websocket() as opened:
            await page.goto(f"{server.http_url}/workflows")
        await expect(page.locator("table.runs")).to_contain_text("FileNotFoundError")
        server.signal(signal.SIGSTOP)
        async with (await opened.value).expect_event("framesent", lambda frame: "list_workflows" in frame):
            await page.get_by_role("button", name="Failed").click()
        server.kill()
        await expect(page.get_by_role("heading", name="The workflows cannot be shown")).to_be_visible()
        server.start()
        await expect(page.locator("table.runs")).to_contain_text("FileNotFoundError")
        await expect(page.locator("table.runs")).not_to_contain_text("completed")


async def test_empty_list_shows_its_first_rows_at_once_and_counts_the_next_ones(
    start_server: StartServer, browser: Browser
) -> None:
    server = start_server()
    async with open_page(browser, f"{server.http_url}/workflows") as page:
        await expect(page.get_by_role("heading", name="Nothing has run yet")).to_be_visible()
        server.services.create_workflow(workflow_id="first", adapter="python", prompt="", stages=["one"])
        await expect(page.locator("table.runs tbody tr")).to_have_count(1)
        server.services.create_workflow(workflow_id="second", adapter="python", prompt="", stages=["one"])
        await expect(page.get_by_role("button", name="▲ 1 new")).to_be_visible()
        await expect(page.locator("table.runs tbody tr")).to_have_count(1)


async def test_empty_list_of_a_status_shows_the_first_run_that_gets_it(
    start_server: StartServer, browser: Browser
) -> None:
    server = start_server()
    server.services.create_workflow(workflow_id="first", adapter="python", prompt="", stages=["one"])
    server.services.start_workflow(workflow_id="first")
    async with open_page(browser, f"{server.http_url}/workflows?status=failed,timeout") as page:
        await expect(page.get_by_role("heading", name="No workflow matches")).to_be_visible()
        server.services.fail_workflow(workflow_id="first", error="No space")
        await expect(page.locator("table.runs tbody tr")).to_contain_text("No space")


async def test_permissions_for_the_longest_ids_are_answered(start_server: StartServer, browser: Browser) -> None:
    server = start_server(environment=SECRETS)
    server.services_driver.execute(STORE_MANY)
    async with open_page(browser, "about:blank") as page:
        await log_in_as_reader(server, page, ["view_workflow", "view_event"])
        async with page.expect_response(lambda answer: f"{99:0128}" in answer.url) as answered:
            await page.goto(f"{server.http_url}/workflows")
        answer = await answered.value
        assert answer.status == 200
        assert len(answer.url) < MAX_PROXY_LINE_BYTES
        await expect(page.locator("table.runs tbody tr")).to_have_count(100)


async def test_search_that_is_typed_last_stays_on_its_page(server: MahavishnuServer, browser: Browser) -> None:
    async with open_page(browser, "about:blank") as page:
        await page.clock.install()
        # The module of the next page is loaded for longer than the search waits.
        held: asyncio.Queue[Route] = asyncio.Queue()
        await page.route("**/pages/pools*.js", held.put)
        await page.goto(f"{server.http_url}/workflows")
        await expect(page.get_by_label("Search workflows")).to_be_visible()
        await page.clock.pause_at(await page.evaluate("Date.now() + 1000"))
        await page.get_by_label("Search workflows").fill("report")
        await page.get_by_role("link", name="Pools").click()
        module = await held.get()
        await page.clock.run_for(1_000)
        await module.continue_()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Pools")
        assert page.url == f"{server.http_url}/pools"


async def test_list_shows_no_rows_of_other_filters_while_the_server_is_lost(
    start_server: StartServer, browser: Browser
) -> None:
    server = start_server()
    server.services_driver.execute(STORE_EVERYTHING)
    async with open_page(browser, f"{server.http_url}/workflows", allowed_errors=LOST_SERVER) as page:
        await expect(page.locator("table.runs tbody tr")).not_to_have_count(0)
        server.kill()
        await expect_pill(page, "offline")
        await expect(page.locator("table.runs")).to_have_class(re.compile("stale"))
        await page.get_by_role("button", name="Failed").click()
        await expect(page.get_by_text("The workflows will be shown when the server answers.")).to_be_visible()
        await expect(page.locator("table.runs")).to_have_count(0)
        server.start()
        await expect(page.locator("table.runs tbody tr")).to_have_count(1)
