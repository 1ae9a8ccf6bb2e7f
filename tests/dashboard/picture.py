"""Take the picture of the overview for the README, `make picture`, from a server that runs demonstrations."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from playwright.async_api import ViewportSize, async_playwright, expect

from tests.harness.browser import CHROMIUM_ARGUMENTS
from tests.harness.chromium import MISSING, find_chromium
from tests.harness.programs import PROJECT_DIR
from tests.harness.serve import MANAGE, Serve

PICTURE: Final = PROJECT_DIR / "docs" / "overview.png"
MAX_PICTURE_BYTES: Final = 150_000
"""What a reader of the README waits for."""

SIZE: Final = ViewportSize(width=1200, height=760)
SIMULATED_SECONDS: Final = 45


def main() -> None:
    """Start a server with a worker, run demonstrations, and take the picture meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        server = Serve(MANAGE, var_dir=Path(folder, "var"))

        def manage(*arguments: str) -> subprocess.Popen[bytes]:
            return subprocess.Popen([sys.executable, "manage.py", *arguments], cwd=PROJECT_DIR, env=server.environment)

        try:
            server.wait_healthy()
            busy = manage("simulate", "--duration", str(SIMULATED_SECONDS), "--workflows", "6", "--seed", "7")
            # The history of the pools has some samples then.
            time.sleep(SIMULATED_SECONDS * 3 / 4)
            for name in ("demo_failure", "source_report"):
                manage("run_workflow", name).wait()
            asyncio.run(take(f"http://{server.address}/"))
            busy.wait()
        finally:
            server.main.terminate()
            server.main.wait()
    size_bytes = PICTURE.stat().st_size
    print(f"{PICTURE.relative_to(PROJECT_DIR)}: {size_bytes:,} bytes")
    if size_bytes > MAX_PICTURE_BYTES:
        raise SystemExit(f"The picture has more than {MAX_PICTURE_BYTES:,} bytes")


async def take(url: str) -> None:
    """Write the picture of the overview at a URL."""
    path = find_chromium()
    if path is None:
        raise SystemExit(MISSING)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=CHROMIUM_ARGUMENTS)
        page = await browser.new_page(viewport=SIZE, color_scheme="light")
        await page.goto(url)
        await expect(page.locator(".pill-live")).to_be_visible()
        await expect(page.locator("table.now tbody tr").nth(4)).to_be_visible()
        # The page has counted for some seconds then.
        await page.wait_for_timeout(5_000)
        await page.screenshot(path=PICTURE, animations="disabled")
        await browser.close()


if __name__ == "__main__":
    main()
