"""No page of the admin has a barrier that axe-core finds, in light or dark, wide or narrow, and lists fit."""

from __future__ import annotations

from typing import Literal

import pytest
from playwright.async_api import Browser

from tests.admin.log_in import log_in_as_superuser
from tests.harness.accessibility import find_barriers
from tests.harness.browser import open_page
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer

pytestmark = pytest.mark.browser

STORE = """
from django.utils import timezone
from orchestration import services
from orchestration.models import Stage, StageMap, StreamContent, Wait, Workflow
from orchestration.models.failed_attempt import FailedAttempt
from orchestration.sdk.launch import launch_by_name
from realtime.models import Event

services.create_pool(pool_id="pool")
services.register_worker(worker_id="worker", pool_id="pool")
services.register_worker(worker_id="gone", pool_id="pool")
services.change_worker_status(worker_id="gone", status="offline")
workflow_id = launch_by_name("demo_failure", prompt="Try", params={}, workflow_id="failed", pool="pool").workflow_id
at = timezone.now()
stage = Stage.objects.get(workflow=workflow_id, name="read_missing_file")
FailedAttempt.objects.create(stage=stage, attempt=1, reason="failed", error="Out of luck", traceback="Traceback")
Stage.objects.filter(workflow=workflow_id).update(status="failed", error="Out of luck", attempt=1, finished_at=at)
Workflow.objects.filter(pk=workflow_id).update(status="failed", error="Out of luck", finished_at=at)
services.create_workflow(workflow_id="pending", adapter="python", prompt="Try", stages=["one"])
services.create_workflow(workflow_id="agent", name="agent", adapter="python", prompt="", stages=["embed"])
embed = Stage.objects.get(workflow="agent")
StageMap.objects.create(stage=embed, total=9, stored=9, completed=5)
Stage.objects.create(workflow_id="agent", name="embed[0]", position=0, item_of=embed, item_index=0)
Stage.objects.filter(pk=embed.pk).update(streams=[{"name": "answer"}])
stream = StreamContent.objects.create(stage=embed, name="answer", attempt=1, content_type="text", sha256="0" * 64,
                                      content=b"The answer\\n" * 99, stored_bytes=1089, length=1089)
wait = Wait.objects.create(workflow_id="agent", stage=embed, name="approve", kind="ask", title="Deploy app:7?",
                           schema={"type": "object"}, recipients="group:ops", opened_at=at, expires_at=at)
services.create_workflow(workflow_id="sub-run", name="score", adapter="python", prompt="", stages=["one"])
Workflow.objects.filter(pk="sub-run").update(parent="agent", root="agent", parent_stage=embed)
Workflow.objects.filter(pk="agent").update(has_children=True, own_pools="pool")
result = [stage.pk, Event.objects.latest("seq").pk, embed.pk, stream.pk, wait.pk]
"""

STORE_WIDE = """
from datetime import timedelta
from django.utils import timezone
from orchestration import services
from orchestration.models import Stage, Wait, Workflow
services.create_workflow(workflow_id="wide", adapter="python", prompt="", stages=[f"s{n}" for n in range(200)],
                         pool_id="p" * 128)
services.start_workflow(workflow_id="wide")
services.complete_stage(workflow_id="wide", stage_name="s0")
at = timezone.now()
services.create_workflow(workflow_id="long", adapter="python", prompt="", stages=["one"], pool_id="p" * 128)
services.start_workflow(workflow_id="long", at=at - timedelta(hours=23, minutes=59))
services.time_out_workflow(workflow_id="long", at=at)
Wait.objects.create(workflow_id="a" * 128, stage=Stage.objects.get(workflow="a" * 128), name="a" * 128, kind="signal",
                    title="word " * 90, recipients="r" * 200, opened_at=at, expires_at=at, answered_by="b" * 128)
Workflow.objects.filter(pk="wide").update(
    held_reason="no_worker_with", held_needs="n" * 60, held_since=timezone.now(), created_at=timezone.now())
"""

# Colours depend on the theme, and layout on the width.
THEMES_AND_WIDTHS: list[tuple[Literal["light", "dark"], int]] = [("light", 1280), ("dark", 390)]


async def test_no_page_has_a_barrier(start_server: StartServer, browser: Browser) -> None:
    server = start_server()
    stage, event, mapped, stream, wait = server.services_driver.execute(STORE)
    orchestration = "orchestration/"
    paths = [
        "",
        *(f"{orchestration}{model}/" for model in ("workflow", "stage", "pool", "worker", "wait")),
        f"{orchestration}workflow/agent/change/",
        f"{orchestration}workflow/sub-run/change/",
        f"{orchestration}stage/{mapped}/change/",
        f"{orchestration}stage/?item_of={mapped}",
        f"{orchestration}streamcontent/{stream}/change/",
        f"{orchestration}wait/{wait}/change/",
        f"{orchestration}workflow/?q=failed&status__exact=failed",
        f"{orchestration}worker/?status__exact=all",
        f"{orchestration}workflow/failed/change/",
        f"{orchestration}workflow/failed/history/",
        f"{orchestration}stage/{stage}/change/",
        f"{orchestration}pool/pool/change/",
        f"{orchestration}worker/worker/change/",
        f"{orchestration}workflow/start/",
        f"{orchestration}workflow/start/?workflow=source_report",
        "realtime/event/",
        f"realtime/event/{event}/change/",
        "realtime/revocation/",
        "realtime/revocation/add/",
    ]
    async with open_page(browser, f"{server.http_url}/admin/login/") as page:
        found = {"login": await find_barriers(page)}
        await log_in_as_superuser(server, page)
        for path in paths:
            answer = await page.goto(f"{server.http_url}/admin/{path}")
            assert answer is not None and answer.status == 200, path
            for theme, width in THEMES_AND_WIDTHS:
                await page.emulate_media(color_scheme=theme)
                await page.set_viewport_size({"width": width, "height": 900})
                found[f"{path} {theme} {width}"] = await find_barriers(page)
                room = await page.evaluate("innerWidth - document.documentElement.scrollWidth")
                assert room >= 0, f"{path} is wider than {width} px"
    assert {where: barriers for where, barriers in found.items() if barriers} == {}


async def test_columns_of_lists_fit_a_small_screen_of_a_desk(server: MahavishnuServer, browser: Browser) -> None:
    server.services.create_pool(pool_id="p" * 128)
    server.services.register_worker(worker_id="w" * 128, pool_id="p" * 128)
    server.services.create_workflow(
        workflow_id="a" * 128, name="n" * 60, adapter="python", prompt="word " * 200, stages=["s" * 60]
    )
    server.services_driver.execute(STORE_WIDE)
    async with open_page(browser, "about:blank") as page:
        await log_in_as_superuser(server, page)
        for path in (
            *(f"orchestration/{model}/" for model in ("workflow", "stage", "worker", "wait")),
            "realtime/event/",
        ):
            await page.set_viewport_size({"width": 1280, "height": 900})
            await page.goto(f"{server.http_url}/admin/{path}")
            widths = "[...document.querySelectorAll('.results')].map(each => [each.scrollWidth, each.clientWidth])"
            ((content, room),) = await page.evaluate(widths)
            assert content <= room, path
            heights = "[...document.querySelectorAll('#result_list tbody tr')].map(each => each.offsetHeight)"
            assert max(await page.evaluate(heights)) <= 34, path
        await page.set_viewport_size({"width": 390, "height": 900})
        await page.goto(f"{server.http_url}/admin/orchestration/workflow/")
        box = await page.locator("#result_list .status").first.bounding_box()
        assert box is not None and box["x"] + box["width"] <= 390
