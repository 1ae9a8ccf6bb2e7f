"""Markup in words of workflows and events stays text: in the admin and on the index page, in a real browser."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import quote

import pytest
from playwright.async_api import Browser, Page, expect

from tests.harness.browser import open_page
from tests.harness.server import MahavishnuServer

PAYLOADS = [
    "<script data-probe>probe()</script>",
    '"><img data-probe src=x onerror=probe()>',
    "'><svg data-probe onload=probe()>",
    "</script><script data-probe>probe()</script>",
    "</textarea></pre></title><img data-probe src=x onerror=probe()>",
    '" onmouseover="probe()" data-probe="',
    "' onfocus='probe()' autofocus data-probe='",
    "<a data-probe href=javascript:probe()>x</a>",
    "javascript:probe()",
    "{{ constructor.constructor('probe()')() }}{% debug %}",
    "&lt;img data-probe src=x onerror=probe()&gt;",
    "\\u003cimg data-probe src=x onerror=probe()\\u003e",
    "<iframe data-probe srcdoc='<script>parent.probe()</script>'></iframe><!-- ]]>",
]
ALL = " ".join(PAYLOADS)

STORE = """
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.utils import timezone
from orchestration import services
from orchestration.models import Stage
from realtime.models import Event
from django.db import transaction
from realtime.events.receivers import announce_as_given

services.create_pool(pool_id=pool_id)
services.register_worker(worker_id=worker_id, pool_id=pool_id)
services.create_workflow(workflow_id=workflow_id, adapter="python", prompt=text, stages=payloads, pool_id=pool_id)
services.start_workflow(workflow_id=workflow_id)
services.start_stage(workflow_id=workflow_id, stage_name=payloads[0], worker_id=worker_id)
services.complete_stage(workflow_id=workflow_id, stage_name=payloads[0], result={text: text, "list": payloads})
services.start_stage(workflow_id=workflow_id, stage_name=payloads[1], worker_id=worker_id)
services.fail_stage(workflow_id=workflow_id, stage_name=payloads[1], error=text)
services.fail_workflow(workflow_id=workflow_id, error=text)
with transaction.atomic():
    for payload in payloads:
        room = f"workflow:{workflow_id}"
        announce_as_given(payload[:64], data={payload: payload}, rooms=(room,), timestamp=timezone.now())
user, _ = User.objects.get_or_create(username="markup", is_staff=True, is_superuser=True)
session = SessionStore()
session["_auth_user_id"], session["_auth_user_backend"] = str(user.pk), "django.contrib.auth.backends.ModelBackend"
session["_auth_user_hash"] = user.get_session_auth_hash()
session.create()
result = {
    "cookie": [settings.SESSION_COOKIE_NAME, session.session_key],
    "stages": list(Stage.objects.filter(workflow=workflow_id).values_list("pk", flat=True)[:2]),
    "events": list(Event.objects.filter(rooms__room=f"workflow:{workflow_id}").values_list("pk", flat=True)),
}
"""

FIND_PROBES = """[...document.querySelectorAll("[data-probe], iframe, [onmouseover], [onfocus], [href^='javascript:']")]
    .map(element => element.outerHTML)"""


async def expect_no_markup(page: Page) -> None:
    assert await page.evaluate(FIND_PROBES) == [], page.url
    assert await page.evaluate("typeof window.probe") == "undefined"


@pytest.mark.browser
async def test_markup_of_workflows_and_events_is_text_on_every_page(
    server: MahavishnuServer, browser: Browser, unique: Callable[[str], str]
) -> None:
    ids = {f"{name}_id": unique(name) for name in ("pool", "worker", "workflow")}
    # An error on a page, such as a script that the Content-Security-Policy blocked, fails the test too.
    async with open_page(browser, f"{server.http_url}/#workflow:{ids['workflow_id']}") as page:
        dialogs = []
        page.on("dialog", lambda dialog: dialogs.append(dialog.message))
        await expect(page.get_by_role("status")).to_have_text(f"Live: workflow:{ids['workflow_id']}")
        stored = server.services_driver.execute(STORE, text=ALL, payloads=PAYLOADS, **ids)
        await expect(page.locator("#events tr").first).to_contain_text(json.dumps(PAYLOADS[-1]))
        for payload in PAYLOADS:
            assert json.dumps(payload) in (await page.locator("#events").text_content() or "")
        await expect_no_markup(page)

        name, value = stored["cookie"]
        await page.context.add_cookies([{"name": name, "value": value, "url": server.http_url}])
        orchestration, events = "orchestration", "realtime/event"
        pages = [
            *(f"{orchestration}/{kind}/" for kind in ("workflow", "stage", "worker", "pool")),
            f"{orchestration}/workflow/{quote(ids['workflow_id'].replace('_', '_5F'))}/change/",
            f"{orchestration}/pool/{quote(ids['pool_id'].replace('_', '_5F'))}/change/",
            f"{orchestration}/worker/{quote(ids['worker_id'].replace('_', '_5F'))}/change/",
            *(f"{orchestration}/stage/{pk}/change/" for pk in stored["stages"]),
            f"{events}/",
            *(f"{events}/{pk}/change/" for pk in stored["events"][-2:]),
            f"{orchestration}/workflow/?q={quote(ALL)}",
            f"{events}/?name={quote(PAYLOADS[0])}",
            "",
        ]
        for path in pages:
            answer = await page.goto(f"{server.http_url}/admin/{path}")
            assert answer is not None
            assert (path, answer.status) == (path, 200)
            await expect_no_markup(page)
        for payload in (PAYLOADS[1], PAYLOADS[5], ALL):
            await page.goto(f"{server.http_url}/?{quote(payload)}#{quote(payload)}")
            await expect_no_markup(page)
        assert dialogs == []
