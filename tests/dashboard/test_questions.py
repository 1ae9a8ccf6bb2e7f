"""The page of all open questions: what comes, what is answered, what ends, and what the user may see."""

from __future__ import annotations

import re
from typing import Final

import pytest
from playwright.async_api import Browser, Locator, Page, Route, expect

from tests.dashboard.connection import expect_pill
from tests.dashboard.reader import SECRETS, log_in_as_reader
from tests.dashboard.stored import STORE_QUESTION
from tests.harness.accessibility import find_barriers
from tests.harness.browser import LOST_SERVER, open_page
from tests.harness.engine import Engine
from tests.harness.fixtures import StartServer
from tests.harness.waiting import eventually

pytestmark = pytest.mark.browser

REFUSED = ("status of 409",)
"""What a browser logs about an answer that the server refuses."""

EXPIRE: Final = """
from datetime import timedelta
from django.utils import timezone
from orchestration.models import Wait
Wait.objects.filter(workflow=workflow_id).update(due_at=timezone.now() - timedelta(minutes=1))
"""
CANCEL: Final = """
from orchestration import services
services.cancel_workflow(workflow_id=workflow_id)
"""
RETRY: Final = """
from orchestration import services
services.retry_run(workflow_id=workflow_id, from_stage="approve")
"""
STORE_MANY: Final = """
from datetime import timedelta
from django.utils import timezone
from orchestration.models import Stage, Wait
now = timezone.now()
stages = Stage.objects.bulk_create(
    Stage(workflow_id="asking", name=f"early_{n}", position=n, status="waiting") for n in range(1, 111))
Wait.objects.bulk_create(
    Wait(workflow_id="asking", stage=stage, name=stage.name, kind="ask", title=f"Question {stage.position}?",
         schema={}, recipients="", opened_at=now - timedelta(minutes=stage.position)) for stage in stages)
"""
ANSWER: Final = """
from orchestration import services
services.answer_wait(workflow_id="asking", name="approve", answer={"approved": True}, by="ada")
"""
ANNOUNCE: Final = """
from django.db import transaction
from django.utils import timezone
from orchestration import signals
from orchestration.models import Stage, Wait
with transaction.atomic():
    wait = Wait.objects.get(workflow="later")
    signals.wait_opened.send(sender=Stage, stage=wait.stage, wait=wait, at=timezone.now())
"""


def url_of(engine: Engine, query: str = "") -> str:
    return f"{engine.server.http_url}/questions{query}"


def question_of(page: Page, workflow_id: str) -> Locator:
    return page.locator("main").get_by_role("listitem").filter(has_text=workflow_id)


async def unfold(question: Locator) -> None:
    await question.locator("summary").click()
    await expect(question.get_by_label("approved")).to_be_visible()


async def answer(question: Locator) -> None:
    await question.get_by_label("approved").select_option("yes")
    await question.get_by_role("button", name="Answer").click()


async def test_question_comes_and_its_answer_removes_it_in_every_browser(
    engine: Engine, shared_pool: str, browser: Browser
) -> None:
    async with open_page(browser, url_of(engine)) as ada, open_page(browser, url_of(engine)) as bob:
        engine.start("deployment", pool=shared_pool, workflow_id="all_asked", prompt="shop")
        asked = question_of(ada, "all_asked")
        for page in (ada, bob):
            question = question_of(page, "all_asked")
            await expect(question.get_by_role("heading", level=2)).to_have_text("Deploy app:1 for shop?")
            facts = re.compile(r"stage approve.+for\s+group:ops.+asked .+times out in ", re.DOTALL)
            await expect(question).to_contain_text(facts)
        await unfold(asked)
        assert await find_barriers(ada) == {}
        await asked.get_by_role("button", name="Answer").click()
        await expect(asked.get_by_label("approved")).to_be_focused()
        await expect(asked.locator(".wrong")).to_have_text("✕ A value is required")
        await answer(asked)
        for page in (ada, bob):
            await expect(question_of(page, "all_asked")).to_have_count(0)
        await eventually(lambda: engine.workflow("all_asked")["status"] == "completed", what="the run completes")
    assert engine.workflow("all_asked")["result"]["final_output"]["approved"] is True


async def test_answer_that_comes_second_is_refused_in_its_form(
    engine: Engine, shared_pool: str, browser: Browser
) -> None:
    engine.start("deployment", pool=shared_pool, workflow_id="all_late")
    async with (
        open_page(browser, url_of(engine)) as ada,
        open_page(browser, url_of(engine), allowed_errors=REFUSED) as bob,
    ):
        first, second = question_of(ada, "all_late"), question_of(bob, "all_late")
        await unfold(first)
        await unfold(second)

        async def answer_before(route: Route) -> None:
            await answer(first)
            await expect(first).to_have_count(0)
            await route.continue_()

        await bob.route("**/waits/approve/answer", answer_before)
        await answer(second)
        await expect(second.get_by_role("alert")).to_contain_text("Someone has answered first, at ")
        await second.get_by_role("button", name="Dismiss").click()
        await expect(second).to_have_count(0)


async def test_question_disappears_when_it_expires_and_when_its_run_is_cancelled(
    engine: Engine, shared_pool: str, browser: Browser
) -> None:
    async with open_page(browser, url_of(engine)) as page:
        for workflow_id, end in (("all_expired", EXPIRE), ("all_cancelled", CANCEL)):
            engine.start("deployment", pool=shared_pool, workflow_id=workflow_id)
            await expect(question_of(page, workflow_id)).to_have_count(1)
            engine.execute(end, workflow_id=workflow_id)
            await expect(question_of(page, workflow_id)).to_have_count(0)
        engine.execute(RETRY, workflow_id="all_cancelled")
        await expect(question_of(page, "all_cancelled")).to_have_count(1)


async def test_answer_removes_no_other_question_of_the_run(engine: Engine, shared_pool: str, browser: Browser) -> None:
    engine.start("two_questions", pool=shared_pool, workflow_id="all_two")
    async with open_page(browser, url_of(engine)) as page:
        asked = question_of(page, "all_two")
        await expect(asked).to_have_count(2)
        first = asked.filter(has=page.get_by_role("heading", name="first"))
        await first.locator("summary").click()
        await first.get_by_label("amount").fill("5")
        await first.get_by_role("button", name="Answer").click()
        await expect(asked).to_have_count(1)
        await expect(asked.get_by_role("heading")).to_have_text("second")


async def test_what_is_typed_stays_while_other_questions_come(
    engine: Engine, shared_pool: str, browser: Browser
) -> None:
    engine.start("deployment", pool=shared_pool, workflow_id="all_typed")
    async with open_page(browser, url_of(engine, "?to=group:ops")) as page:
        typed = question_of(page, "all_typed")
        await unfold(typed)
        comment = typed.get_by_label("comment")
        await comment.fill("Go")
        engine.start("asks_inside", pool=shared_pool, workflow_id="all_other")
        engine.start("deployment", pool=shared_pool, workflow_id="all_newer")
        await expect(question_of(page, "all_newer")).to_have_count(1)
        await expect(comment).to_have_value("Go")
        await expect(comment).to_be_focused()
        # It is for another recipient.
        await expect(question_of(page, "all_other")).to_have_count(0)
        await page.get_by_role("button", name="Remove the filter to").click()
        await question_of(page, "all_other").get_by_role("link", name="user:ada").click()
        await expect(page).to_have_url(url_of(engine, "?to=user%3Aada"))
        await expect(question_of(page, "all_newer")).to_have_count(0)
        await expect(question_of(page, "all_other")).to_have_count(1)


async def test_what_is_typed_stays_when_its_question_is_filtered_away_or_ends(
    engine: Engine, shared_pool: str, browser: Browser
) -> None:
    engine.start("deployment", pool=shared_pool, workflow_id="all_kept")
    async with open_page(browser, url_of(engine)) as page:
        typed = question_of(page, "all_kept")
        await unfold(typed)
        comment = typed.get_by_label("comment")
        await comment.fill("Not before Monday")
        engine.start("asks_inside", pool=shared_pool, workflow_id="all_inside")
        await question_of(page, "all_inside").get_by_role("link", name="user:ada").click()
        await expect(typed).to_have_count(0)
        await page.get_by_role("button", name="Remove the filter to").click()
        await expect(comment).to_have_value("Not before Monday")
        await expect(comment).to_be_enabled()
        engine.execute(CANCEL, workflow_id="all_kept")
        await expect(typed.get_by_role("alert")).to_contain_text("This can no longer be sent")
        await expect(comment).to_have_value("Not before Monday")
        await typed.get_by_role("button", name="Dismiss").click()
        await expect(typed).to_have_count(0)


async def test_changes_during_an_outage_are_shown_after_it(start_server: StartServer, browser: Browser) -> None:
    server = start_server()
    server.services_driver.execute(STORE_QUESTION)
    async with open_page(browser, f"{server.http_url}/questions", allowed_errors=LOST_SERVER) as page:
        await expect(question_of(page, "asking")).to_have_count(1)
        await expect_pill(page, "live")
        server.kill()
        await expect_pill(page, "offline")
        server.services_driver.execute(ANSWER)
        server.services_driver.execute(STORE_QUESTION.replace('"asking"', '"later"'))
        server.services_driver.execute(ANNOUNCE)
        server.start()
        await expect(question_of(page, "later")).to_have_count(1)
        await expect(question_of(page, "asking")).to_have_count(0)


async def test_rows_are_bounded_and_older_ones_are_added(start_server: StartServer, browser: Browser) -> None:
    server = start_server()
    async with open_page(browser, f"{server.http_url}/questions") as page:
        rows = page.locator("main").get_by_role("listitem")
        await expect(page.get_by_role("heading", name="No open questions")).to_be_visible()
        server.services_driver.execute(STORE_QUESTION)
        server.services_driver.execute(STORE_MANY)
        await page.reload()
        await expect(rows).to_have_count(50)
        await expect(page.locator("main").get_by_role("status")).to_have_text("The newest 50 open questions")
        await expect(rows.first).to_contain_text("Deploy app:7?")
        await expect(rows.last).to_contain_text("Question 49?")
        for _ in range(2):
            await page.get_by_role("button", name="Show older questions").click()
        await expect(rows).to_have_count(111)
        await expect(page.locator("main").get_by_role("status")).to_have_text("111 open questions")
        await expect(page.get_by_role("button", name="Show older questions")).to_have_count(0)
        # A page with keys alone: the link of the first row, then its form.
        await page.keyboard.press("g")
        await page.keyboard.press("q")
        await page.keyboard.press("j")
        await expect(rows.first.get_by_role("link", name="release asking")).to_be_focused()


async def test_page_shows_what_the_user_may_read(start_server: StartServer, browser: Browser) -> None:
    server = start_server(environment=SECRETS)
    server.services_driver.execute(STORE_QUESTION)
    async with open_page(browser, "about:blank") as page:
        await log_in_as_reader(server, page, ["view_workflow"])
        await page.goto(f"{server.http_url}/questions")
        question = question_of(page, "asking")
        await expect(question).to_contain_text("Users who may operate this workflow can answer.")
        await expect(question.locator("details")).to_have_count(0)
        # Without the events of everything, the user asks for what is new.
        server.services_driver.execute(STORE_MANY)
        await page.get_by_role("button", name="Read again").click()
        await expect(page.locator("main").get_by_role("status")).to_have_text("The newest 50 open questions")
