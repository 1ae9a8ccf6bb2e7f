"""Hidden characters of data in pages: shown as escapes, and unchanged in the fields of forms."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.test import Client
from playwright.async_api import Browser, expect

from mahavishnu_site.escaped_pages import escape_html
from orchestration import services
from orchestration.models import Stage
from orchestration.models.failed_attempt import FailedAttempt
from realtime.models import Event, EventRoom
from tests.harness.browser import open_page
from tests.harness.server import MahavishnuServer

Unique = Callable[[str], str]

HIDDEN = "\u202egpj.exe\u202c \u2066x\u200b\U000e0041\x1b[2J\x9b\u061c"
ESCAPED = r"\u202egpj.exe\u202c \u2066x\u200b\U000e0041\x1b[2J\x9b\u061c"
ESCAPED_JSON = ESCAPED.replace(r"\x1b", r"\u001b")
ORDINARY = "שלום مرحبا می‌خواهم 👩‍👩‍👧 ❤️"


@pytest.fixture
def stage() -> Stage:
    """Store hidden characters in every field that takes them."""
    text = f"{ORDINARY} {HIDDEN}"
    services.create_pool(pool_id="pool_1")
    services.create_workflow(
        workflow_id="wf_1", adapter="python", prompt=text, params={text: [text]}, stages=[text], pool_id="pool_1"
    )
    services.start_workflow(workflow_id="wf_1")
    services.start_stage(workflow_id="wf_1", stage_name=text)
    services.fail_stage(workflow_id="wf_1", stage_name=text, error=text)
    stage = Stage.objects.get(workflow="wf_1")
    FailedAttempt.objects.create(stage=stage, attempt=1, reason="failed", error=text, traceback=f"a\n\tb {text}")
    event = Event.objects.create(name="workflow.created", data=json.dumps({"prompt": text}, ensure_ascii=False))
    EventRoom.objects.create(room="workflow:wf_1", event=event)
    return stage


@pytest.mark.django_db
@pytest.mark.parametrize(
    "page",
    [
        "orchestration/workflow/",
        "orchestration/workflow/wf_5F1/change/",
        "orchestration/stage/",
        "orchestration/stage/{stage}/change/",
        "orchestration/stage/{stage}/history/",
        "realtime/event/",
        "realtime/event/{event}/change/",
    ],
)
def test_admin_page_shows_hidden_characters_as_escapes(admin: Client, stage: Stage, page: str) -> None:
    response = admin.get("/admin/" + page.format(stage=stage.pk, event=Event.objects.latest("seq").pk))
    assert response.status_code == 200
    text = html.unescape(re.sub(r"<[^>]*>", "", response.content.decode()))
    assert (ESCAPED in text or ESCAPED_JSON in text) and ORDINARY in text
    assert escape_html(response.content.decode()) == response.content.decode()
    assert int(response["Content-Length"]) == len(response.content)


@pytest.mark.django_db
def test_form_does_not_change_what_it_shows(admin: Client) -> None:
    name = "א\u200fב"
    user = User.objects.create_user("someone", first_name=name)
    page = admin.get(f"/admin/auth/user/{user.pk}/change/").content.decode()
    assert f'value="{name}"' in page
    start = "/admin/orchestration/workflow/start/?workflow=demo_failure"
    form = admin.post(start, {"prompt": HIDDEN, "pool": "no pool"}).content.decode()
    assert HIDDEN in form


@pytest.mark.browser
async def test_events_page_shows_hidden_characters_as_escapes(
    server: MahavishnuServer, browser: Browser, unique: Unique
) -> None:
    workflow_id = unique("wf")
    text = f"{ORDINARY} {HIDDEN}"
    async with open_page(browser, f"{server.http_url}/events?channel=workflow:{workflow_id}") as page:
        await expect(page.get_by_role("heading", name="No events yet")).to_be_visible()
        server.services.create_workflow(workflow_id=workflow_id, adapter="python", prompt=text, stages=[text])
        await page.get_by_role("button", name="JSON of event").click()
        data = await page.locator(".details pre").text_content()
        assert data is not None and f"{ORDINARY} {ESCAPED_JSON}" in data
