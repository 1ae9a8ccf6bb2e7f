"""Markup in words of workflows and events stays text: in the admin and on the pages, in a real browser."""

from __future__ import annotations

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
    channel = f"workflow:{ids['workflow_id']}"
    url = f"{server.http_url}/events?channel={channel}"
    async with open_page(browser, url, allowed_errors=("/nowhere?",)) as page:
        dialogs = []
        page.on("dialog", lambda dialog: dialogs.append(dialog.message))
        await expect(page.locator("body")).to_have_attribute("data-connection", "live")
        stored = server.services_driver.execute(STORE, text=ALL, payloads=PAYLOADS, **ids)
        for payload in PAYLOADS:
            await expect(page.locator("main table")).to_contain_text(payload[:64])
        await expect_no_markup(page)
        run = f"workflows/{ids['workflow_id']}"
        shown = {
            "": ids["workflow_id"],
            "workflows": ids["workflow_id"],
            run: PAYLOADS[0],
            f"{run}#log": "No stage has written",
            f"{run}#data": PAYLOADS[0],
            f"{run}#events": PAYLOADS[0],
            f"pools/{ids['pool_id']}": ids["worker_id"],
        }
        for path, text in shown.items():
            await page.goto("about:blank")
            await page.goto(f"{server.http_url}/{path}")
            await expect(page.locator("main")).to_contain_text(text)
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
            for path in ("", "workflows", "events", "start/none", run, "nowhere"):
                await page.goto(
                    f"{server.http_url}/{path}?q={quote(payload)}&channel={quote(payload)}#{quote(payload)}"
                )
                await expect_no_markup(page)
        assert dialogs == []
