"""The page of events, which follows a channel, in a real browser."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest
from playwright.async_api import Browser, Page, expect

from realtime.events.types import EVENT_TYPES
from tests.harness.browser import EACH_FRAME_UNTIL, LOST_SERVER, open_page
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer

Unique = Callable[[str], str]

ADD_EVENTS = """
from datetime import datetime, timezone
from django.db import transaction
from realtime.events.receivers import announce_as_given
at = datetime.now(timezone.utc)
with transaction.atomic():
    for number in range(first, last):
        data = {"worker_id": f"w_{number}", "pool_id": pool_id}
        announce_as_given("worker.draining", data=data, rooms=(f"pool:{pool_id}",), timestamp=at)
"""


ADD_COUNTS = """
from datetime import datetime, timezone
from django.db import transaction
from realtime.events.receivers import announce_as_given
at = datetime.now(timezone.utc)
with transaction.atomic():
    for number in range(count):
        data = {"pool_id": pool_id, "status": {"queue_size": number}}
        announce_as_given("pool.status_changed", data=data, rooms=(f"pool:{pool_id}",), timestamp=at)
"""


async def rows(page: Page) -> list[list[str]]:
    """Return event, about and summary of each row, newest first."""
    found: list[list[str]] = await page.evaluate(
        "[...document.querySelectorAll('.event-list tbody tr:not(.details)')]"
        ".map(row => [...row.cells].slice(1, 4).map(cell => cell.innerText.trim()))"
    )
    return found


def add_events(server: MahavishnuServer, pool_id: str, first: int, last: int) -> None:
    server.services_driver.execute(ADD_EVENTS, pool_id=pool_id, first=first, last=last)


@pytest.mark.browser
async def test_page_names_every_event_of_the_protocol(server: MahavishnuServer, browser: Browser) -> None:
    async with open_page(browser, f"{server.http_url}/events") as page:
        names = await page.evaluate("import('/static/dashboard/event_words.js').then(words => words.EVENT_NAMES)")
    assert sorted(names) == sorted(EVENT_TYPES)


@pytest.mark.browser
async def test_page_shows_events_of_a_channel_in_words_as_they_come(
    server: MahavishnuServer, browser: Browser, unique: Unique
) -> None:
    pool_id, worker_id = unique("pool"), unique("worker")
    server.services.create_pool(pool_id=pool_id)
    async with open_page(browser, f"{server.http_url}/events?channel=pool:{pool_id}&counts=shown") as page:
        await expect(page.locator(".event-list tbody tr")).to_have_count(1)
        await expect(page.locator(".addresses")).to_contain_text(server.ws_url)
        server.services.register_worker(worker_id=worker_id, pool_id=pool_id)
        await expect(page.locator(".event-list tbody tr")).to_have_count(3)
        assert await rows(page) == [
            ["○ pool counts", pool_id, "1 idle"],
            ["+ worker added", worker_id, f"pool {pool_id} · idle"],
            ["+ pool created", pool_id, ""],
        ]
        worker = page.get_by_role("link", name=worker_id, exact=True)
        assert await worker.get_attribute("href") == f"/pools/{pool_id}"
        await page.locator(".event-list tr", has_text="pool created").get_by_role("button").click()
        message = json.loads(await page.locator(".details pre").inner_text())
        assert (message["event"], message["room"]) == ("pool.created", f"pool:{pool_id}")
        assert {"seq", "id", "timestamp", "data"} <= message.keys()
        # An open row is being read: nothing moves until the reader asks for it.
        server.services.drain_pool(pool_id=pool_id)
        await page.get_by_role("button", name="▲ 1 new").click()
        await expect(page.locator(".event-list tbody tr").first).to_contain_text("pool draining")


@pytest.mark.browser
async def test_counts_of_pools_are_folded_and_counted_until_the_address_shows_them(
    server: MahavishnuServer, browser: Browser, unique: Unique
) -> None:
    pool_id = unique("pool")
    server.services.create_pool(pool_id=pool_id)
    server.services.register_worker(worker_id=unique("worker"), pool_id=pool_id)
    async with open_page(browser, f"{server.http_url}/events?channel=pool:{pool_id}") as page:
        events = page.locator(".event-list tbody tr")
        await expect(events).to_have_count(2)
        folded = page.get_by_role("button", name="1 pool count hidden")
        await expect(folded).to_have_attribute("aria-pressed", "true")
        server.services.register_worker(worker_id=unique("worker"), pool_id=pool_id)
        await expect(events).to_have_count(3)
        await page.get_by_role("button", name="2 pool counts hidden").click()
        await expect(events).to_have_count(5)
        assert page.url.endswith("&counts=shown")
        await page.get_by_role("button", name="Hide pool counts").click()
        await expect(page.get_by_role("button", name="2 pool counts hidden")).to_be_visible()
        await expect(events).to_have_count(3)
        assert page.url.endswith(f"channel=pool%3A{pool_id}")


@pytest.mark.browser
async def test_page_reads_past_counts_of_pools_to_the_events_that_it_shows(
    server: MahavishnuServer, browser: Browser, unique: Unique
) -> None:
    pool_id = unique("pool")
    server.services.create_pool(pool_id=pool_id)
    server.services_driver.execute(ADD_COUNTS, pool_id=pool_id, count=250)
    async with open_page(browser, f"{server.http_url}/events?channel=pool:{pool_id}") as page:
        await expect(page.locator(".event-list tbody tr")).to_have_count(1)
        await expect(page.get_by_role("button", name="250 pool counts hidden")).to_be_visible()
        await expect(page.get_by_text("The event log has no older ones")).to_be_visible()


@pytest.mark.browser
async def test_page_follows_the_names_and_the_channel_of_its_address(
    server: MahavishnuServer, browser: Browser, unique: Unique
) -> None:
    pool_id = unique("pool")
    server.services.create_pool(pool_id=pool_id)
    server.services.drain_pool(pool_id=pool_id)
    url = f"{server.http_url}/events?channel=pool:{pool_id}&name=pool.drained"
    async with open_page(browser, url) as page:
        await expect(page.locator(".event-list tbody tr")).to_have_count(1)
        await page.get_by_text("Events: 1 of").click()
        await page.get_by_label("pool created").check()
        await expect(page.locator(".event-list tbody tr")).to_have_count(2)
        assert page.url.endswith("&name=pool.drained%2Cpool.created")
        await page.get_by_label("Id of the pool").fill("a b")
        await page.keyboard.press("Enter")
        expected = "“a b” is not the id of a pool. An id has 1 to 128 of the characters A-Z a-z 0-9 . _ -."
        await expect(page.get_by_role("alert")).to_have_text(expected)
        await expect(page.locator(".event-list")).to_have_count(0)


@pytest.mark.browser
async def test_paused_page_keeps_what_came_and_reads_older_events(
    server: MahavishnuServer, browser: Browser, unique: Unique
) -> None:
    pool_id = unique("pool")
    add_events(server, pool_id, 0, 150)
    async with open_page(browser, f"{server.http_url}/events?channel=pool:{pool_id}") as page:
        await expect(page.locator(".event-list tbody tr")).to_have_count(100)
        await page.keyboard.press(".")
        add_events(server, pool_id, 150, 160)
        await expect(page.locator(".notice")).to_contain_text("Paused 10 new")
        assert (await rows(page))[0][1] == "w_149"
        await page.get_by_role("button", name="Show older events").click()
        await expect(page.locator(".event-list tbody tr")).to_have_count(150)
        await page.keyboard.press(".")
        await expect(page.locator(".event-list tbody tr")).to_have_count(160)
        assert [row[1] for row in await rows(page)] == [f"w_{number}" for number in range(159, -1, -1)]


@pytest.mark.browser
async def test_reading_position_stays_while_events_come(
    server: MahavishnuServer, browser: Browser, unique: Unique
) -> None:
    pool_id = unique("pool")
    add_events(server, pool_id, 0, 100)
    async with open_page(browser, f"{server.http_url}/events?channel=pool:{pool_id}") as page:
        await expect(page.locator(".event-list tbody tr")).to_have_count(100)
        await page.mouse.wheel(0, 900)
        await page.evaluate(EACH_FRAME_UNTIL % "scrollY > 500")
        row = page.get_by_role("link", name="w_60", exact=True)
        before = await row.bounding_box()
        add_events(server, pool_id, 100, 114)
        await expect(page.get_by_role("button", name="▲ 14 new")).to_be_visible()
        assert await row.bounding_box() == before
        await page.get_by_role("button", name="▲ 14 new").click()
        await expect(page.locator(".event-list tbody tr").first).to_contain_text("w_113")


@pytest.mark.browser
async def test_more_events_than_can_be_read_are_counted_and_draw_few_rows(
    server: MahavishnuServer, browser: Browser, unique: Unique
) -> None:
    pool_id = unique("pool")
    add_events(server, pool_id, 0, 1)
    async with open_page(browser, f"{server.http_url}/events?channel=pool:{pool_id}") as page:
        await expect(page.locator(".event-list tbody tr")).to_have_count(1)
        notice = "document.querySelector('.event-notices').innerText.includes('more · pause to read')"
        counted = asyncio.ensure_future(page.evaluate(EACH_FRAME_UNTIL % notice))
        add_events(server, pool_id, 1, 400)
        await counted
        # The page follows again once they come slower.
        await expect(page.locator(".event-list tbody tr").first).to_contain_text("w_399")
        await expect(page.locator(".event-list tbody tr")).to_have_count(200)
        await page.get_by_role("button", name="Pause").click()
        add_events(server, pool_id, 400, 2600)
        await expect(page.locator(".notice")).to_contain_text("2,000 are kept here, 200 older ones are not")
        await page.get_by_role("button", name="read them from the history").click()
        await expect(page.locator(".event-list tbody tr").first).to_contain_text("w_599")


@pytest.mark.browser
async def test_page_continues_after_a_server_restart(start_server: StartServer, browser: Browser) -> None:
    server = start_server()
    url = f"{server.http_url}/events?channel=pool:p"
    async with open_page(browser, url, allowed_errors=LOST_SERVER) as page:
        await expect(page.get_by_role("heading", name="No events yet")).to_be_visible()
        server.services.create_pool(pool_id="p")
        await expect(page.locator(".event-list tbody tr")).to_have_count(1)
        server.kill()
        await expect(page.locator(".pill")).to_contain_text("Offline since")
        server.services.drain_pool(pool_id="p")
        server.start()
        await expect(page.locator(".event-list tbody tr")).to_have_count(2)
        assert [row[0] for row in await rows(page)] == ["! pool draining", "+ pool created"]


@pytest.mark.browser
async def test_page_escapes_data_and_marks_test_events(
    server: MahavishnuServer, browser: Browser, unique: Unique
) -> None:
    workflow_id = unique("wf")
    async with open_page(browser, f"{server.http_url}/events?channel=workflow:{workflow_id}") as page:
        await expect(page.get_by_role("heading", name="No events yet")).to_be_visible()
        data = '{"prompt": "<img src=x onerror=document.title=\'broken\'>\\u202e"}'
        assert server.manage("emit_test_event", "workflow.started", "--id", workflow_id, "--data", data).returncode == 0
        await expect(page.locator(".test")).to_have_text("test")
        assert (await page.title(), await page.locator("img").count()) == ("Events · Mahavishnu", 0)
        summary = "<img src=x onerror=document.title='broken'>\\u202e"
        assert (await rows(page))[0][1:] == [f"test {workflow_id}", summary]


@pytest.mark.browser
async def test_rows_that_leave_the_page_leave_nothing_in_the_document(
    server: MahavishnuServer, browser: Browser, unique: Unique
) -> None:
    pool_id = unique("pool")
    async with open_page(browser, f"{server.http_url}/events?channel=pool:{pool_id}") as page:
        body = page.locator(".event-list tbody")
        add_events(server, pool_id, 0, 300)
        await expect(body).to_contain_text("w_299")
        per_row = "body => Math.floor(body.childNodes.length / body.rows.length)"
        # lit-html 3.3.1 to 3.3.3 leave a comment for each row: https://github.com/lit/lit/issues/5298
        count = await body.evaluate(per_row)
        for last in (600, 900):
            add_events(server, pool_id, last - 300, last)
            await expect(body).to_contain_text(f"w_{last - 1}")
        assert await body.evaluate(per_row) == count
