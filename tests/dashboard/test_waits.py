"""What a workflow asks, on its page: the form, who has answered, and what is refused."""

from __future__ import annotations

import asyncio
import re

import pytest
from playwright.async_api import Browser, Page, Route, expect

from tests.api.http_calls import call
from tests.dashboard.reader import SECRETS, log_in_as_reader
from tests.harness.accessibility import find_barriers
from tests.harness.browser import open_page
from tests.harness.engine import Engine
from tests.harness.engine_fixtures import FAST_POLLING, JOBS
from tests.harness.fixtures import StartServer
from tests.harness.waiting import eventually

pytestmark = pytest.mark.browser

REFUSED = ("status of 409", "status of 422")
"""What a browser logs about an answer that the server refuses."""

RETRY = """
from orchestration import services
services.retry_run(workflow_id=workflow_id, from_stage="approve")
"""
EXPIRE = """
from datetime import timedelta
from django.utils import timezone
from orchestration.models import Wait
Wait.objects.filter(workflow=workflow_id).update(due_at=timezone.now() - timedelta(minutes=1))
"""
STATUS = """
from orchestration.models import Wait
result = Wait.objects.get(workflow=workflow_id).status
"""


def url_of(engine: Engine, workflow_id: str) -> str:
    return f"{engine.server.http_url}/workflows/{workflow_id}"


async def test_question_is_answered_in_its_form(engine: Engine, shared_pool: str, browser: Browser) -> None:
    engine.start("deployment", pool=shared_pool, workflow_id="page_ask", prompt="shop")
    async with open_page(browser, url_of(engine, "page_ask")) as page:
        asks = page.get_by_role("group", name="Deploy app:1 for shop?")
        await expect(asks).to_contain_text("for group:ops")
        await expect(asks).to_contain_text(re.compile(r"times out in (23 h|1 d)"))
        row = page.locator("li.stage-row", has_text="approve")
        await expect(row).to_contain_text("waits for an answer: Deploy app:1 for shop?")
        await expect(row.locator("rect.waiting")).to_have_count(1)
        assert await find_barriers(page) == {}
        await asks.get_by_role("button", name="Answer").click()
        await expect(asks.get_by_label("approved")).to_be_focused()
        await expect(asks.locator(".wrong")).to_have_text("✕ A value is required")
        await asks.get_by_label("approved").select_option("yes")
        await asks.get_by_label("comment").fill("Go")
        await asks.get_by_role("button", name="Answer").click()
        await expect(page.locator(".run-head")).to_contain_text("3 of 3 stages")
        await expect(asks).to_have_count(0)
        await expect(row).to_contain_text("answered at ")
        # Nothing ran while it waited.
        await expect(row.locator("rect.waiting")).to_have_count(1)
        await expect(row.locator("rect.success")).to_have_count(0)
        result = engine.workflow("page_ask")["result"]["final_output"]
        assert (result["approved"], result["comment"]) == (True, "Go")
        engine.execute(RETRY, workflow_id="page_ask")
        await expect(asks.get_by_label("comment")).to_have_value("")
        await expect(row).not_to_contain_text("answered at ")


async def test_form_has_an_input_for_each_type_and_shows_refusals_at_it(
    engine: Engine, shared_pool: str, browser: Browser
) -> None:
    engine.start("parcel", pool=shared_pool, workflow_id="page_parcel")
    async with open_page(browser, url_of(engine, "page_parcel"), allowed_errors=REFUSED) as page:
        asks = page.get_by_role("group", name="How is it sent?")
        await asks.get_by_label("carrier").select_option("pigeon")
        await asks.get_by_label("count").fill("0")
        await asks.get_by_label("weight_kg").fill("1.5")
        await asks.get_by_label("sizes").fill('[1, "two"]')
        await asks.get_by_role("button", name="Answer").click()
        await expect(asks.locator(".wrong")).to_have_text("✕ At least 1")
        await asks.get_by_label("count").fill("2")
        await asks.get_by_role("button", name="Answer").click()
        # What only the server can check.
        await expect(asks.locator(".wrong")).to_have_text("✕ sizes[1]: Expected int, got str")
        await expect(asks.get_by_label("sizes")).to_have_attribute("aria-invalid", "true")
        await expect(asks.get_by_label("carrier")).to_have_value('"pigeon"')
        await asks.get_by_label("sizes").fill("[1, 2]")
        await asks.get_by_role("button", name="Answer").click()
        await expect(page.locator(".run-head .status").first).to_contain_text("completed")
    answer = {"carrier": "pigeon", "count": 2, "weight_kg": 1.5, "sizes": [1, 2], "is_gift": False, "note": ""}
    assert engine.workflow("page_parcel")["result"]["final_output"] == {"send": answer}


async def test_answer_that_comes_second_is_refused_in_its_form(
    engine: Engine, shared_pool: str, browser: Browser
) -> None:
    engine.start("deployment", pool=shared_pool, workflow_id="page_late")

    async def answer_before(route: Route) -> None:
        path = "workflows/page_late/waits/approve/answer"
        answered = await asyncio.to_thread(call, engine.server, "POST", path, {"answer": {"approved": False}})
        assert answered.status == 200, answered.text
        await route.continue_()

    async with open_page(browser, url_of(engine, "page_late"), allowed_errors=REFUSED) as page:
        await page.route("**/waits/approve/answer", answer_before)
        await answer_yes(page)
        asks = page.get_by_role("group", name="Deploy app:1")
        await expect(asks.get_by_role("alert")).to_contain_text("Someone has answered first, at ")
        await expect(asks.get_by_label("approved")).to_be_disabled()
        await expect(page.locator(".run-head .status").first).to_contain_text("completed")
        await asks.get_by_role("button", name="Dismiss").click()
        await expect(asks).to_have_count(0)


async def test_what_was_typed_stays_when_the_question_is_answered_elsewhere(
    engine: Engine, shared_pool: str, browser: Browser
) -> None:
    engine.start("deployment", pool=shared_pool, workflow_id="page_typed")
    async with open_page(browser, url_of(engine, "page_typed")) as page:
        asks = page.get_by_role("group", name="Deploy app:1")
        await asks.get_by_label("comment").fill("Not before Monday")
        path = "workflows/page_typed/waits/approve/answer"
        answered = await asyncio.to_thread(call, engine.server, "POST", path, {"answer": {"approved": True}})
        assert answered.status == 200, answered.text
        await expect(asks.get_by_role("alert")).to_contain_text("This can no longer be sent: it was answered elsewhere")
        await expect(asks.get_by_label("comment")).to_have_value("Not before Monday")
        await expect(asks.get_by_label("comment")).to_be_disabled()
        await asks.get_by_role("button", name="Dismiss").click()
        await expect(asks).to_have_count(0)


async def test_answer_after_the_time_limit_is_refused_in_its_form(
    engine: Engine, shared_pool: str, browser: Browser
) -> None:
    engine.start("deployment", pool=shared_pool, workflow_id="page_expired")

    async def expire_before(route: Route) -> None:
        engine.execute(EXPIRE, workflow_id="page_expired")
        await eventually(
            lambda: engine.execute(STATUS, workflow_id="page_expired") == "expired", what="the scheduler ends the wait"
        )
        await route.continue_()

    async with open_page(browser, url_of(engine, "page_expired"), allowed_errors=REFUSED) as page:
        await page.route("**/waits/approve/answer", expire_before)
        await answer_yes(page)
        asks = page.get_by_role("group", name="Deploy app:1")
        await expect(asks.get_by_role("alert")).to_contain_text("The time for an answer is over.")
        await expect(page.locator("li.stage-row", has_text="approve")).to_contain_text("timed out at ")
        await expect(page.locator(".run-head .status").first).to_contain_text("completed")


RUN_AGAIN = """
from orchestration import services
services.cancel_workflow(workflow_id=workflow_id)
services.retry_run(workflow_id=workflow_id, from_stage="approve")
"""
OPEN = """
from orchestration.models import Wait
result = Wait.objects.filter(workflow=workflow_id, status="open").count()
"""


async def test_form_of_a_question_before_a_retry_answers_no_later_one(
    engine: Engine, shared_pool: str, browser: Browser
) -> None:
    engine.start("deployment", pool=shared_pool, workflow_id="page_again")

    async def run_again_before(route: Route) -> None:
        engine.execute(RUN_AGAIN, workflow_id="page_again")
        await eventually(lambda: engine.execute(OPEN, workflow_id="page_again") == 1, what="the run asks again")
        await route.continue_()

    async with open_page(browser, url_of(engine, "page_again"), allowed_errors=REFUSED) as page:
        await page.route("**/waits/approve/answer", run_again_before)
        await answer_yes(page)
        refusal = page.get_by_role("alert").filter(has_text="was run again after this question")
        await expect(refusal).to_have_count(1)
        assert engine.execute(OPEN, workflow_id="page_again") == 1


async def answer_yes(page: Page) -> None:
    await page.get_by_label("approved").select_option("yes")
    await page.get_by_role("button", name="Answer").click()


async def test_signal_is_sent_and_an_attempt_that_waited_is_shown(
    engine: Engine, shared_pool: str, browser: Browser
) -> None:
    engine.start("payments", pool=shared_pool, workflow_id="page_paid")
    async with open_page(browser, url_of(engine, "page_paid")) as page:
        await page.get_by_label("amount").fill("5")
        await page.get_by_role("button", name="Send the signal").click()
        # The second signal has no form.
        await page.get_by_role("textbox", name="Send the signal").fill('{"tip": 1}')
        await page.get_by_role("button", name="Send the signal").click()
        await expect(page.locator(".run-head .status").first).to_contain_text("completed")
        row = page.locator("li.stage-row", has_text="charge")
        await expect(row).to_contain_text("signal paid sent at ")
        await row.get_by_text("2 earlier attempts").click()
        await expect(row.locator("li").first).to_contain_text("Attempt 1 began to wait after")
    result = engine.workflow("page_paid")["result"]["final_output"]
    assert (result["first"], result["second"]) == (5, {"tip": 1})


ALLOW_CHANGES = """
from django.contrib.auth.models import Permission, User
User.objects.get(username="reader").user_permissions.add(Permission.objects.get(codename="change_workflow"))
"""


async def test_only_a_user_who_may_operate_the_workflow_gets_the_form(
    start_server: StartServer, browser: Browser
) -> None:
    server = start_server(environment={**SECRETS, **JOBS, **FAST_POLLING})
    engine = Engine(server)
    try:
        engine.worker(pool_id="asking")
        engine.start("deployment", pool="asking", workflow_id="page_may")
        async with open_page(browser, "about:blank") as page:
            await log_in_as_reader(server, page, ["view_workflow"])
            await page.goto(url_of(engine, "page_may"))
            asks = page.get_by_role("group", name="Deploy app:1")
            await expect(asks).to_contain_text("Users who may operate this workflow can answer.")
            await expect(asks.get_by_role("button")).to_have_count(0)
            server.services_driver.execute(ALLOW_CHANGES)
            await page.reload()
            await answer_yes(page)
            row = page.locator("li.stage-row", has_text="approve")
            await expect(row).to_contain_text("answered by reader at ")
    finally:
        engine.close()
