"""What the connection pill of a page shows, and has shown."""

from __future__ import annotations

from playwright.async_api import BrowserContext, Page, expect

RECORD_KINDS = """
addEventListener("DOMContentLoaded", () => {
  const kinds = (globalThis.pillKinds = []);
  new MutationObserver(() => {
    const kind = document.querySelector(".pill")?.dataset.kind;
    if (kind && kind !== kinds.at(-1)) kinds.push(kind);
  }).observe(document.getElementById("connection"), { childList: true, subtree: true, attributes: true });
});
"""


async def record_kinds(context: BrowserContext) -> None:
    """Have each new page of the context keep the kinds that its pill goes through, for `kinds_of`."""
    await context.add_init_script(RECORD_KINDS)


async def kinds_of(page: Page) -> list[str]:
    """Return the kinds that the pill has shown so far, in order."""
    kinds: list[str] = await page.evaluate("globalThis.pillKinds")
    return kinds


async def expect_pill(page: Page, kind: str, text: str | None = None) -> None:
    """Wait until the pill shows this kind, and this text in it."""
    await expect(page.locator(f'.pill[data-kind="{kind}"]')).to_be_visible()
    if text is not None:
        await expect(page.locator(".pill > span").first).to_contain_text(text)
