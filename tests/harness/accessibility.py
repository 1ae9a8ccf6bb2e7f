"""Barriers for people with disabilities on a page, as axe-core finds them."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from playwright.async_api import Page

from tests.harness.browser import run_in_console

# Read, not imported: the script runs in the page.
_AXE: Final = files("axe_playwright_python") / "axe.min.js"

# Colours are measured once they have stopped changing, which they do after another theme was chosen.
# The one rule that reads style sheets would create inline ones, which the policy of the pages forbids.
_RUN: Final = """async () => {
  const transitions = document.getAnimations().filter(each => each instanceof CSSTransition);
  await Promise.allSettled(transitions.map(({ finished }) => finished));
  const { violations } = await axe.run({ preload: false });
  return violations.map(({ id, nodes }) => [id, nodes.map(({ target, failureSummary }) =>
      `${target.join(" ")}: ${failureSummary}`)]);
}"""


async def find_barriers(page: Page) -> dict[str, list[str]]:
    """Return the elements that violate a rule of axe-core, by rule."""
    if not await page.evaluate("'axe' in window"):
        await run_in_console(page, f"{_AXE.read_text(encoding='utf-8')}\n;undefined")
    return dict(await page.evaluate(_RUN))
