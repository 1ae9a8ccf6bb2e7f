"""The overview: what runs now, what failed lately, the pools, and what it shows where there is nothing."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from playwright.async_api import Browser, Page, expect

from tests.harness.browser import LOST_SERVER, open_page
from tests.harness.fixtures import StartServer

REPORT_PROGRESS = """
from orchestration.models import Stage
from orchestration.services import report_progress
stage = Stage.objects.get(workflow_id=workflow_id, name=name)
report_progress(stage.pk, stage.attempt, progress=progress)
"""

START_TWO_DAYS_AGO = """
from datetime import timedelta
from django.utils import timezone
from orchestration import services
from orchestration.models import Workflow
services.create_workflow(workflow_id="wf_1", name="long", adapter="python", prompt="", stages=["write"])
services.start_workflow(workflow_id="wf_1")
at = timezone.now() - timedelta(days=2)
Workflow.objects.filter(pk="wf_1").update(created_at=at, started_at=at)
"""

END_AT_ONCE = """
from django.db import transaction
from orchestration import services
with transaction.atomic():
    services.complete_stage(workflow_id=workflow_id, stage_name="write")
    services.complete_workflow(workflow_id=workflow_id, result={})
"""


def counter(page: Page, name: str) -> str:
    """Return the selector of the number of a counter."""
    return f".counter:has(.counter-name:text-is('{name}')) strong"


@pytest.mark.browser
async def test_overview_follows_a_run_to_its_failure(start_server: StartServer, browser: Browser) -> None:
    server = start_server()
    services = server.services
    services.create_pool(pool_id="reports")
    services.register_worker(worker_id="reports-1", pool_id="reports")
    async with open_page(browser, f"{server.http_url}/", allowed_errors=LOST_SERVER) as page:
        await expect(page.locator(counter(page, "Workers"))).to_have_text("1/1")
        services.create_workflow(
            workflow_id="wf_1", name="write", adapter="python", prompt="", stages=["plan", "draft"], pool_id="reports"
        )
        services.start_workflow(workflow_id="wf_1")
        services.start_stage(workflow_id="wf_1", stage_name="plan", worker_id="reports-1")
        services.change_worker_status(worker_id="reports-1", status="busy")
        row = page.locator("table.now tbody tr")
        await expect(row).to_contain_text("plan")
        await expect(row.locator(".status")).to_have_text("◐ running")
        await expect(row.get_by_role("link", name="write wf_1")).to_have_attribute("href", "/workflows/wf_1")
        await expect(page.locator(counter(page, "Running"))).to_have_text("1")
        await expect(page.get_by_role("link", name="reports-1: busy", exact=False)).to_be_visible()
        services.complete_stage(workflow_id="wf_1", stage_name="plan")
        await expect(row.locator(".count")).to_have_text("1/2")
        services.start_stage(workflow_id="wf_1", stage_name="draft")
        server.services_driver.execute(REPORT_PROGRESS, workflow_id="wf_1", name="draft", progress=0.64)
        await expect(row.locator(".percent")).to_have_text("64 %")
        services.fail_workflow(workflow_id="wf_1", error="The stage draft failed: OSError: no \u202espace")
        failed = page.locator("table.failures tbody tr")
        await expect(failed).to_contain_text("draft: OSError: no \\u202espace")
        await expect(page.locator(counter(page, "Failed 24 h"))).to_have_text("1")
        await expect(page.get_by_text("Nothing runs now.")).to_be_visible()
        server.kill()
        await expect(page.locator(".overview")).to_have_class(re.compile("stale"))


@pytest.mark.browser
async def test_run_that_ended_is_shown_with_all_its_stages(start_server: StartServer, browser: Browser) -> None:
    server = start_server()
    services = server.services
    services.create_pool(pool_id="reports")
    services.create_workflow(
        workflow_id="wf_1", name="report", adapter="python", prompt="", stages=["write"], pool_id="reports"
    )
    services.start_workflow(workflow_id="wf_1")
    services.start_stage(workflow_id="wf_1", stage_name="write", worker_id=None)
    async with open_page(browser, "about:blank") as page:
        # While the clock stands still, the row of a run that has ended stays.
        await page.clock.set_fixed_time(datetime.now(tz=UTC))
        await page.goto(f"{server.http_url}/")
        row = page.locator("table.now tbody tr")
        await expect(row.locator(".count")).to_have_text("0/1")
        server.services_driver.execute(END_AT_ONCE, workflow_id="wf_1")
        await expect(row.locator(".status")).to_have_text("✓ completed")
        await expect(row.locator(".count")).to_have_text("1/1")


AGE = """
from datetime import timedelta
from django.utils import timezone
from orchestration.models import Workflow
Workflow.objects.filter(pk="old").update(finished_at=timezone.now() - timedelta(hours=23, minutes=50))
"""


@pytest.mark.browser
async def test_failures_of_the_last_day_are_those_of_the_time_that_is_shown(
    start_server: StartServer, browser: Browser
) -> None:
    server = start_server()
    for workflow_id in ("old", "new"):
        server.services.create_workflow(workflow_id=workflow_id, adapter="python", prompt="", stages=["write"])
        server.services.fail_workflow(workflow_id=workflow_id, error="No disk")
    server.services_driver.execute(AGE)
    async with open_page(browser, "about:blank") as page:
        # A clock that is wrong by days: that of the server counts.
        await page.clock.install(time=datetime.now(tz=UTC) + timedelta(days=3))
        await page.goto(f"{server.http_url}/")
        await expect(page.locator(counter(page, "Failed 24 h"))).to_have_text("2")
        await page.clock.fast_forward("15:00")
        await expect(page.locator(counter(page, "Failed 24 h"))).to_have_text("1")
        await expect(page.locator("table.failures tbody tr")).to_have_count(1)


@pytest.mark.browser
async def test_empty_overview_starts_a_demo_whose_failure_can_be_retried(
    start_server: StartServer, browser: Browser
) -> None:
    server = start_server()
    async with open_page(browser, f"{server.http_url}/") as page:
        await expect(page.get_by_role("heading", name="Nothing has run yet")).to_be_visible()
        await expect(page.locator(".command code").first).to_have_text(
            "python manage.py run_workflow demo_retry --watch"
        )
        await page.get_by_role("button", name="Run a demo").click()
        await page.wait_for_url(re.compile("/workflows/wf_"))
        await expect(page.get_by_role("heading", level=1)).to_contain_text("demo_retry")
        server.services.fail_workflow(workflow_id=page.url.rsplit("/", 1)[1], error="It is too late")
        await page.get_by_role("link", name="Overview").click()
        await expect(page.get_by_role("heading", name="Nothing has run yet")).to_have_count(0)
        failed = page.locator("table.failures tbody tr")
        await expect(failed).to_contain_text("It is too late")
        await failed.get_by_role("button", name="Retry demo_retry").click()
        await page.get_by_role("button", name="Retry the workflow").click()
        await expect(failed).to_have_count(0)
        await expect(page.locator("table.now tbody tr")).to_contain_text("demo_retry")


@pytest.mark.browser
async def test_run_of_two_days_that_fails_now_has_failed_lately(start_server: StartServer, browser: Browser) -> None:
    server = start_server()
    server.services_driver.execute(START_TWO_DAYS_AGO)
    server.services.fail_workflow(workflow_id="wf_1", error="OSError: no space")
    async with open_page(browser, f"{server.http_url}/") as page:
        await expect(page.locator("table.failures tbody tr")).to_contain_text("no space")
        await page.locator(".counter", has_text="Failed 24 h").click()
        await expect(page).to_have_url(f"{server.http_url}/workflows?status=failed%2Ctimeout&ended=24h")
        await expect(page.locator("table.runs tbody tr")).to_contain_text("no space")
        await page.goto(f"{server.http_url}/workflows?status=failed,timeout&since=24h")
        await expect(page.get_by_text("No workflow matches")).to_be_visible()
