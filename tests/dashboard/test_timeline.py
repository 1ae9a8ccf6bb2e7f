"""The timeline of a workflow: every attempt at a stage, and what ended the stages that did not."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.async_api import Browser, expect

from tests.dashboard.stored import STORE_EVERYTHING
from tests.harness.browser import open_page
from tests.harness.fixtures import StartServer

pytestmark = pytest.mark.browser

LAUNCH = """
from orchestration import services
from orchestration.models import Stage
from orchestration.sdk.launch import launch_by_name
services.create_pool(pool_id="local")
services.join_pool(name="box", process="x", pool_id="local")
launch_by_name("demo_retry", prompt="x", params={}, workflow_id="unreliable", pool="local")
Stage.objects.filter(workflow="unreliable", name="prepare").update(last_attempt=3)
"""
ATTEMPT = """
from orchestration import services
from orchestration.models import Stage
slot = services.Slot(worker_id="box-1", process="x")
stage = Stage.objects.get(workflow="unreliable", name="prepare")
if ends_by is None:
    if stage.retry_at is not None:
        assert services.queue_retry(stage.pk, due_before=stage.retry_at)
    assert services.claim_stage(stage.pk, stage.attempt + 1, slot=slot)
else:
    assert getattr(services, ends_by)(stage.pk, stage.attempt, slot=slot, **arguments).accepted
"""
END_WHILE_A_STAGE_RUNS = """
from datetime import timedelta
from django.utils import timezone
from orchestration.models import Stage, Workflow
end = timezone.now()
stages = Stage.objects.filter(workflow="running")
stages.filter(name="measure").update(
    status="cancelled", attempt=1, started_at=end - timedelta(seconds=4), finished_at=end)
stages.filter(name="write").update(status="cancelled", finished_at=end)
Workflow.objects.filter(pk="running").update(
    status=status, error="The run took too long", started_at=end - timedelta(seconds=5), finished_at=end)
"""


async def test_timeline_draws_every_attempt(start_server: StartServer, browser: Browser) -> None:
    server = start_server()
    server.services_driver.execute(LAUNCH)

    def start() -> None:
        server.services_driver.execute(ATTEMPT, ends_by=None)

    def end(ends_by: str, **arguments: Any) -> None:
        server.services_driver.execute(ATTEMPT, ends_by=ends_by, arguments=arguments)

    start()
    end("fail_attempt", error="ConnectionError: no answer")
    start()
    async with open_page(browser, f"{server.http_url}/workflows/unreliable") as page:
        stage = page.locator("li.stage-row").first
        await expect(stage.locator("rect.failure")).to_have_count(1)
        await expect(stage.locator("rect.running")).to_have_count(1)
        await expect(stage.get_by_text("1 earlier attempt")).to_be_visible()
        end("release_attempt")
        await expect(stage.get_by_text("2 earlier attempts")).to_be_visible()
        await expect(stage.locator("rect.running")).to_have_count(0)
        start()
        end("release_attempt", reason="lost", error="The worker died")
        start()
        end("complete_attempt", output=None)
        await expect(stage.locator("rect.success")).to_have_count(1)
        await expect(stage.locator("rect.failure")).to_have_count(2)
        await stage.get_by_text("3 earlier attempts").click()
        listed = [
            re.sub("after .*?s( ·|$)", r"after T\1", text) for text in await stage.locator("li").all_inner_texts()
        ]
        assert listed == [
            "Attempt 1 failed after T · box-1 · ConnectionError: no answer",
            "Attempt 2 given back, because its worker stopped after T · box-1",
            "Attempt 3 lost with its worker after T · box-1 · The worker died",
        ]
        await page.reload()
        await expect(stage.get_by_text("3 earlier attempts")).to_be_visible()
        await expect(stage.locator("rect.failure")).to_have_count(2)


async def test_cancelled_stage_shows_how_long_it_ran(start_server: StartServer, browser: Browser) -> None:
    server = start_server()
    server.services_driver.execute(STORE_EVERYTHING)
    server.services_driver.execute(END_WHILE_A_STAGE_RUNS, status="cancelled")
    async with open_page(browser, f"{server.http_url}/workflows/running") as page:
        await expect(page.locator("li.stage-row", has_text="measure").locator(".took")).to_have_text("4.0 s")
        await expect(page.locator("li.stage-row", has_text="write").locator(".took")).to_have_text("never ran")
        await expect(page.locator(".legend")).to_contain_text("cancelled")


async def test_timeout_names_the_stages_that_it_ended(start_server: StartServer, browser: Browser) -> None:
    server = start_server()
    server.services_driver.execute(STORE_EVERYTHING)
    server.services_driver.execute(END_WHILE_A_STAGE_RUNS, status="timeout")
    async with open_page(browser, f"{server.http_url}/workflows/running") as page:
        await expect(page.get_by_label("Error")).to_contain_text("after 5.0 s, while measure ran")
