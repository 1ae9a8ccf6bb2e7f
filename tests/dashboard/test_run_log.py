"""The log of a run: read once and again where that is needed, each line once."""

from __future__ import annotations

import signal

import pytest
from playwright.async_api import Browser, Page, expect

from tests.dashboard.stored import STORE_EVERYTHING
from tests.dashboard.test_workflow import LOG
from tests.harness.browser import LOST_SERVER, open_page
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer

pytestmark = pytest.mark.browser

RESTORE_BACKUP = """
from django.db import connection
from realtime.eventlog.epoch import renew_epoch
from realtime.models import Event, EventRoom
Event.objects.filter(seq__gt=seq).delete()
EventRoom.objects.filter(event_id__gt=seq).delete()
with connection.cursor() as cursor:
    cursor.execute("UPDATE sqlite_sequence SET seq = %s WHERE name = %s", [seq, Event._meta.db_table])
renew_epoch()
"""
NEWEST_SEQ = """
from realtime.models import Event
result = Event.objects.values_list("seq", flat=True).first()
"""


def write(server: MahavishnuServer, *lines: str) -> None:
    server.services_driver.execute(LOG, workflow_id="running", lines=list(lines))


async def lines_of(page: Page) -> list[str]:
    # Lines that are not on the screen have no inner text.
    return await page.locator(".log .text").all_text_contents()


async def test_log_continues_after_an_older_backup_was_restored(start_server: StartServer, browser: Browser) -> None:
    server = start_server()
    server.services_driver.execute(STORE_EVERYTHING)
    seq = server.services_driver.execute(NEWEST_SEQ)
    write(server, "lost 1", "lost 2", "lost 3")
    async with open_page(browser, "about:blank", allowed_errors=LOST_SERVER) as page:
        await page.goto(f"{server.http_url}/workflows/running#log")
        await expect(page.locator(".log .text").last).to_have_text("lost 3")
        server.kill()
        server.services_driver.execute(RESTORE_BACKUP, seq=seq)
        server.start()
        # A new epoch begins without the events before it.
        await expect(page.get_by_text("No stage has written to the log yet.")).to_be_visible()
        write(server, "new")
        await expect(page.locator(".log .text")).to_have_text(["new"])


async def test_log_whose_answer_was_lost_is_read_when_the_server_is_back(
    start_server: StartServer, browser: Browser
) -> None:
    server = start_server()
    server.services_driver.execute(STORE_EVERYTHING)
    async with open_page(browser, "about:blank", allowed_errors=LOST_SERVER) as page:
        async with page.expect_websocket() as opened:
            # So the module of the page is there when the server does not answer.
            await page.goto(f"{server.http_url}/workflows/pending")
        await page.get_by_role("link", name="Workflows").click()
        link = page.locator('a[href="/workflows/running"]')
        await expect(link).to_be_visible()
        server.signal(signal.SIGSTOP)
        async with (await opened.value).expect_event("framesent", lambda frame: "list_events" in frame):
            await link.click()
        server.kill()
        server.start()
        await page.get_by_role("link", name="Log").click()
        await expect(page.locator(".log .text")).to_have_count(30)


async def test_earlier_lines_are_added_once_however_often_they_are_asked_for(
    start_server: StartServer, browser: Browser
) -> None:
    server = start_server()
    server.services_driver.execute(STORE_EVERYTHING)
    lines = [f"more {number}" for number in range(520)]
    write(server, *lines)
    async with open_page(browser, f"{server.http_url}/workflows/running#log") as page:
        earlier = page.get_by_role("button", name="Show earlier lines")
        await expect(earlier).to_be_visible()
        await earlier.dblclick()
        await expect(page.locator(".log .text").first).to_have_text("line 0")
        await expect(earlier).to_have_count(0)
        assert await lines_of(page) == [*(f"line {number}" for number in range(30)), *lines]
