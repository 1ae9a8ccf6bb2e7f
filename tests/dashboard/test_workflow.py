"""The page of one workflow: its timeline, log and events as they come, operations, and what no longer exists."""

from __future__ import annotations

import re

import pytest
from django.contrib.admin.utils import quote
from django.urls import reverse
from playwright.async_api import Browser, expect

from tests.dashboard.connection import expect_pill
from tests.dashboard.stored import STORE_EVERYTHING
from tests.harness.browser import LOST_SERVER, open_page
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer

pytestmark = pytest.mark.browser

LOG = """
from django.db import transaction
from django.utils import timezone
from realtime.events.receivers import announce_as_given
with transaction.atomic():
    for text in lines:
        announce_as_given("workflow.stage_log", rooms=(f"workflow:{workflow_id}",), timestamp=timezone.now(),
                          data={"workflow_id": workflow_id, "stage_name": "measure", "message": text})
"""
PRUNE = """
from orchestration.models import Workflow
Workflow.objects.get(pk=workflow_id).delete()
"""


async def test_timeline_and_log_follow_a_run(start_server: StartServer, browser: Browser) -> None:
    server = start_server()
    services = server.services
    server.services_driver.execute(STORE_EVERYTHING)
    async with open_page(browser, f"{server.http_url}/workflows/running") as page:
        stage = page.locator("li.stage-row", has_text="measure")
        await expect(stage.locator(".status")).to_contain_text("↻")
        services.start_stage(workflow_id="running", stage_name="measure", worker_id="local-1")
        await expect(stage).to_contain_text("local-1")
        await expect(stage.locator("rect.running")).to_have_count(1)
        server.services_driver.execute(
            LOG, workflow_id="running", lines=["\x1b[31mred\x1b[0m", "<b>bold</b>", "x\u202ey"]
        )
        log = page.get_by_role("log")
        await expect(log.locator(".line").last).to_contain_text("x\\u202ey")
        await expect(log).to_contain_text("<b>bold</b>")
        assert re.search(r"\bred\b", await log.inner_text())
        await page.get_by_role("link", name="Log").click()
        await expect(page).to_have_url(f"{server.http_url}/workflows/running#log")
        await expect(log.locator(".line")).to_have_count(33)
        await page.get_by_label("Search the log").fill("line 2")
        await expect(log.locator(".line")).to_have_count(11)
        await page.get_by_label("Search the log").fill("")
        await page.get_by_label("Stage", exact=True).select_option("measure")
        await expect(log.locator(".line")).to_have_count(3)
        services.add_stage(workflow_id="running", stage_name="publish")
        await page.get_by_role("link", name="Timeline").click()
        await expect(page.locator("li.stage-row")).to_have_count(4)
        services.complete_stage(workflow_id="running", stage_name="measure")
        services.cancel_workflow(workflow_id="running", reason="Enough")
        await expect(page.get_by_text("Cancelled: Enough")).to_be_visible()


async def test_log_stays_where_its_reader_has_scrolled_to(start_server: StartServer, browser: Browser) -> None:
    server = start_server()
    server.services_driver.execute(STORE_EVERYTHING)
    more = [f"more {number}" for number in range(200)]
    server.services_driver.execute(LOG, workflow_id="running", lines=more)
    async with open_page(browser, f"{server.http_url}/workflows/running#log") as page:
        log = page.get_by_role("log")
        await expect(log.get_by_text("more 199")).to_be_visible()
        follow = page.get_by_role("button", name="Follow")
        await expect(follow).to_have_attribute("aria-pressed", "true")
        await log.evaluate("element => element.scrollTop = 0")
        await expect(follow).to_have_attribute("aria-pressed", "false")
        server.services_driver.execute(LOG, workflow_id="running", lines=["the last one"])
        await expect(log.get_by_text("the last one")).to_have_count(1)
        assert await log.evaluate("element => element.scrollTop") == 0
        await follow.click()
        await expect(log.get_by_text("the last one")).to_be_in_viewport()


async def test_run_is_cancelled_and_retried_from_a_stage(start_server: StartServer, browser: Browser) -> None:
    server = start_server(environment={"MAHAVISHNU_CANCEL_GRACE_SECONDS": "7"})
    server.services_driver.execute(STORE_EVERYTHING)
    async with open_page(browser, f"{server.http_url}/workflows/running") as page:
        await page.get_by_role("button", name="Cancel", exact=True).click()
        dialog = page.get_by_role("dialog", name="Cancel report?")
        await expect(dialog).to_contain_text("2 stages that have not ended will not complete.")
        await expect(dialog).to_contain_text("killed after 7 seconds")
        await dialog.get_by_label("Reason").fill("Wrong files")
        await dialog.get_by_role("button", name="Cancel the workflow").click()
        await expect(page.get_by_text("Cancelled: Wrong files")).to_be_visible()
        await page.goto(f"{server.http_url}/workflows/failed")
        await page.get_by_text("Retry from …").click()
        await page.get_by_role("button", name="prepare").click()
        dialog = page.get_by_role("dialog", name="Retry from prepare?")
        await expect(dialog).to_contain_text("prepare and 2 stages after it run again.")
        await dialog.get_by_role("button", name="Retry from this stage").click()
        await expect(page.locator(".run-head")).to_contain_text("0 of 3 stages")
        await expect(page.locator(".run-head .status").first).to_contain_text("running")


async def test_menu_closes_with_escape_and_returns_the_focus(start_server: StartServer, browser: Browser) -> None:
    server = start_server()
    server.services_driver.execute(STORE_EVERYTHING)
    async with open_page(browser, f"{server.http_url}/workflows/failed") as page:
        menu = page.locator("details.menu", has_text="Retry from …")
        await menu.locator("summary").click()
        await menu.get_by_role("button", name="prepare").focus()
        await page.keyboard.press("Escape")
        await expect(menu.get_by_role("button", name="prepare")).to_be_hidden()
        await expect(menu.locator("summary")).to_be_focused()


async def test_keys_work_after_a_row_was_ticked(start_server: StartServer, browser: Browser) -> None:
    server = start_server()
    server.services_driver.execute(STORE_EVERYTHING)
    async with open_page(browser, f"{server.http_url}/workflows?status=failed") as page:
        await page.get_by_role("checkbox", name="Select demo_failure").check()
        await page.keyboard.press("j")
        await expect(page.get_by_role("link", name="demo_failure")).to_be_focused()


async def test_hidden_characters_of_a_stage_s_name_are_escapes(server: MahavishnuServer, browser: Browser) -> None:
    server.services.create_pool(pool_id="hidden")
    server.services.create_workflow(
        workflow_id="hidden", adapter="python", prompt="", stages=["a\u202eb"], pool_id="hidden"
    )
    server.services.start_workflow(workflow_id="hidden")
    async with open_page(browser, f"{server.http_url}/workflows/hidden") as page:
        await expect(page.locator("li.stage-row .status")).to_contain_text("a\\u202eb")
        await page.goto(f"{server.http_url}/pools/hidden")
        await expect(page.locator("table.runs")).to_contain_text("hidden")
        server.services.start_stage(workflow_id="hidden", stage_name="a\u202eb", worker_id=None)
        await expect(page.locator("table.runs .wide").last).to_have_text("a\\u202eb")


async def test_numbers_that_a_browser_rounds_are_said_to_be_rounded(server: MahavishnuServer, browser: Browser) -> None:
    for workflow_id, value in (("exact", 2**53 - 1), ("rounded", 2**53 + 1)):
        server.services.create_workflow(
            workflow_id=workflow_id, adapter="python", prompt="", stages=["one"], params={"files": [{"bytes": value}]}
        )
    note = "A browser rounds whole numbers above 9,007,199,254,740,991"
    async with open_page(browser, f"{server.http_url}/workflows/exact#data") as page:
        await expect(page.locator(".json")).to_contain_text(str(2**53 - 1))
        await expect(page.get_by_text(note)).to_have_count(0)
        await page.goto(f"{server.http_url}/workflows/rounded#data")
        await expect(page.get_by_text(note)).to_be_visible()


async def test_events_of_a_run_have_the_words_of_the_page_of_events(server: MahavishnuServer, browser: Browser) -> None:
    server.services.create_workflow(workflow_id="in_words", adapter="python", prompt="", stages=["one", "two"])
    server.services.start_workflow(workflow_id="in_words")
    server.services.skip_stage(workflow_id="in_words", stage_name="one")
    async with open_page(browser, f"{server.http_url}/workflows/in_words#events") as page:
        row = page.locator("table.events tbody tr").first
        await expect(row.locator("td").nth(2)).to_contain_text("stage skipped")
        await expect(row.locator("summary")).to_have_text("one")


async def test_page_of_a_run_that_is_pruned_says_that_there_is_none(
    start_server: StartServer, browser: Browser
) -> None:
    server = start_server()
    server.services_driver.execute(STORE_EVERYTHING)
    async with open_page(browser, f"{server.http_url}/workflows/completed") as page:
        await expect(page.locator(".run-head")).to_contain_text("completed")
        server.services_driver.execute(PRUNE, workflow_id="completed")
        await expect(page.get_by_text("There is no such workflow")).to_be_visible()


async def test_durations_stop_while_the_server_does_not_answer(start_server: StartServer, browser: Browser) -> None:
    server = start_server()
    server.services_driver.execute(STORE_EVERYTHING)
    server.services.start_stage(workflow_id="running", stage_name="measure", worker_id="local-1")
    async with open_page(browser, "about:blank", allowed_errors=LOST_SERVER) as page:
        await page.clock.install()
        await page.goto(f"{server.http_url}/workflows/running")
        took = page.locator("li.stage-row", has_text="measure").locator(".took")
        await expect(took).to_contain_text("s")
        await page.clock.run_for(5_000)
        running = await took.inner_text()
        server.kill()
        await expect_pill(page, "offline")
        stopped = await took.inner_text()
        await page.clock.run_for(120_000)
        assert await took.inner_text() == stopped
        assert running.endswith(" s")
        await expect(page.locator("article.run")).to_have_class(re.compile("stale"))


async def test_list_counts_new_runs_and_moves_nothing(server: MahavishnuServer, browser: Browser) -> None:
    name = "listed_runs"
    server.services.create_workflow(workflow_id="listed-1", name=name, adapter="python", prompt="", stages=["one"])
    async with open_page(browser, f"{server.http_url}/workflows?name={name}") as page:
        rows = page.locator("main [data-row]")
        await expect(rows).to_have_count(1)
        server.services.create_workflow(workflow_id="listed-2", name=name, adapter="python", prompt="", stages=["one"])
        server.services.create_workflow(workflow_id="other", name="other", adapter="python", prompt="", stages=["one"])
        await expect(page.get_by_role("button", name="1 new")).to_be_visible()
        server.services.start_workflow(workflow_id="listed-1")
        await expect(page.locator("tbody .status")).to_contain_text("running")
        await expect(rows).to_have_count(1)
        await page.get_by_role("button", name="1 new").click()
        await expect(rows).to_have_count(2)


async def test_long_id_leaves_every_column_on_the_screen(server: MahavishnuServer, browser: Browser) -> None:
    name = "run_with_a_long_id"
    server.services.create_workflow(workflow_id="w" * 128, name=name, adapter="python", prompt="", stages=["one"])
    async with open_page(browser, f"{server.http_url}/workflows?name={name}") as page:
        await page.set_viewport_size({"width": 1280, "height": 800})
        await expect(page.locator("tbody td").last).to_be_in_viewport(ratio=1)
        await expect(page.get_by_title("w" * 128)).to_be_visible()


async def test_filter_for_a_status_without_a_button_is_shown_and_removed(
    server: MahavishnuServer, browser: Browser
) -> None:
    name = "run_without_a_timeout"
    server.services.create_workflow(workflow_id="unfinished", name=name, adapter="python", prompt="", stages=["one"])
    async with open_page(browser, f"{server.http_url}/workflows?status=timeout&name={name}") as page:
        await expect(page.get_by_text("No workflow matches")).to_be_visible()
        await page.get_by_role("button", name="Remove the filter status").click()
        await expect(page.locator("tbody")).to_contain_text("unfinished")
        await expect(page.get_by_role("button", name="All", exact=True)).to_have_attribute("aria-pressed", "true")


async def test_page_of_a_run_leads_to_its_row_in_the_admin(server: MahavishnuServer, browser: Browser) -> None:
    server.services.create_workflow(workflow_id="wf_in_admin", name="", adapter="python", prompt="", stages=["one"])
    async with open_page(browser, f"{server.http_url}/workflows/wf_in_admin#data") as page:
        link = page.get_by_role("link", name="The row of this workflow")
        assert await link.get_attribute("href") == reverse(
            "admin:orchestration_workflow_change", args=[quote("wf_in_admin")]
        )
        await expect(page.locator("#zone")).to_contain_text("Times in ")
