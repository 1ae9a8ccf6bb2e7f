"""The streams of chunks of a stage, on the page of its workflow: as they come, bounded, and with their gaps."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, Page, expect

from tests.harness.accessibility import find_barriers
from tests.harness.browser import EACH_FRAME_UNTIL, open_page
from tests.harness.engine import Engine
from tests.harness.engine_fixtures import Files

pytestmark = pytest.mark.browser

MAX_SHOWN_BYTES = 64 * 1024
"""As in `followed_stream.js`."""

MAX_STREAM_BYTES = 1024 * 1024
PART = "0123456789abcde\n" * 256


def url_of(engine: Engine, workflow_id: str) -> str:
    return f"{engine.server.http_url}/workflows/{workflow_id}"


async def test_text_of_a_stream_is_shown_as_it_comes_and_after_its_end(
    engine: Engine, shared_pool: str, browser: Browser, files: Files
) -> None:
    parts = ["# Hellö\n", "<b>x</b>\ty\u202ez", "\nThe end"]
    engine.start("answering", pool=shared_pool, workflow_id="page_stream", parts=parts, **files.params)
    async with open_page(browser, url_of(engine, "page_stream")) as page:
        text = page.get_by_role("log", name="Stream answer of answer")
        await expect(text).to_have_text("# Hellö\n<b>x</b>\ty\\u202ez")
        assert await find_barriers(page) == {}
        files.open_gate()
        await expect(text).to_have_text("# Hellö\n<b>x</b>\ty\\u202ez\nThe end")
        summary = page.locator("details.stream summary")
        length = len("".join(parts).encode())
        await expect(summary).to_have_text(f"Stream answer · complete · {length} bytes")
        await summary.click()
        await expect(text).to_have_count(0)
        await expect(page.locator(".run-head .status").first).to_contain_text("completed")
        # What is stored is read when it is asked for.
        await page.reload()
        await expect(text).to_have_count(0)
        await summary.click()
        await expect(text).to_contain_text("The end")


async def test_stream_begins_again_with_another_attempt(
    engine: Engine, shared_pool: str, browser: Browser, files: Files
) -> None:
    engine.start("dying_once", pool=shared_pool, workflow_id="page_reset", **files.params)
    async with open_page(browser, url_of(engine, "page_reset")) as page:
        text = page.get_by_role("log", name="Stream answer of die_once")
        await expect(text).to_have_text("attempt 1: ")
        files.open_gate()
        await expect(text).to_have_text("attempt 2: whole")
        await expect(page.locator("details.stream")).to_contain_text("Attempt 2 writes it anew")
        await expect(page.locator(".run-head .status").first).to_contain_text("completed")


async def test_long_stream_is_bounded_on_the_page_and_says_what_is_missing(
    engine: Engine, shared_pool: str, browser: Browser, files: Files
) -> None:
    times = MAX_STREAM_BYTES // len(PART) + 10
    files.open_gate()
    engine.start("repeating", pool=shared_pool, workflow_id="page_long", part=PART, times=times, **files.params)
    async with open_page(browser, url_of(engine, "page_long")) as page:
        await expect(page.locator(".run-head .status").first).to_contain_text("completed")
        await page.reload()
        stream = page.locator("details.stream")
        await stream.locator("summary").click()
        # The server stores the first MiB only.
        await expect(stream.locator(".gap")).to_have_text(
            f"{10 * len(PART):,} bytes are missing here: the server could not deliver them."
        )
        await expect(stream).to_contain_text(f"complete · {times * len(PART):,} bytes")
        shown = await stream.locator(".stream-text > span:not(.gap)").all_text_contents()
        shown_bytes = len("".join(shown))
        assert MAX_SHOWN_BYTES - len(PART) < shown_bytes <= MAX_SHOWN_BYTES
        await expect(stream).to_contain_text(f"the first {MAX_STREAM_BYTES - shown_bytes:,} bytes are not shown")


async def test_stream_stays_where_its_reader_has_scrolled_to(
    engine: Engine, shared_pool: str, browser: Browser, files: Files
) -> None:
    engine.start(
        "answering",
        pool=shared_pool,
        workflow_id="page_scroll",
        parts=["word " * 1000, "before\n", "the end"],
        **files.params,
    )
    async with open_page(browser, url_of(engine, "page_scroll")) as page:
        text = page.get_by_role("log", name="Stream answer of answer")
        await expect(text).to_contain_text("before")
        await expect(text).to_have_attribute("data-at-end", "true")
        await wait_for_end(page)
        await page.set_viewport_size({"width": 390, "height": 900})
        await wait_for_end(page)
        await text.evaluate("element => element.scrollTop = 10")
        await expect(text).to_have_attribute("data-at-end", "false")
        files.open_gate()
        await expect(text).to_contain_text("the end")
        await expect(page.locator("details.stream summary")).to_contain_text("complete")
        assert await text.evaluate("element => element.scrollTop") == 10
        await expect(page.locator(".run-head .status").first).to_contain_text("completed")
        await page.get_by_role("button", name="To the end").click()
        await expect(text).to_have_attribute("data-at-end", "true")
        await wait_for_end(page)


async def wait_for_end(page: Page) -> None:
    """Wait until the end of the text is shown."""
    distance = "text.scrollHeight - text.scrollTop - text.clientHeight"
    await page.locator(".stream-text").evaluate(f"text => {EACH_FRAME_UNTIL % f'{distance} < 1'}")
