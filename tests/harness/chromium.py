"""Finds a Chromium for the tests, or installs one: `python -m tests.harness.chromium`, which `make test` runs first."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from typing import Final

COMMANDS: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

MISSING: Final = (
    "No Chromium was found or could be installed; tests in a browser are skipped. "
    "Run `.venv/bin/playwright install chromium`, or set CHROMIUM to the path of one."
)

# In another process: Playwright's synchronous API does not work where an event loop runs.
PRINT_PLAYWRIGHTS_PATH: Final = """
from playwright.sync_api import sync_playwright
with sync_playwright() as playwright:
    print(playwright.chromium.executable_path)
"""

START_TIMEOUT_SECONDS = 60
DOWNLOAD_TIMEOUT_SECONDS = 900

INSTALL_WITH_PLAYWRIGHT: Final = ((sys.executable, "-m", "playwright", "install", "chromium"),)
INSTALL_WITH_APT: Final = (
    ("apt-get", "update", "-qq"),
    ("apt-get", "install", "-qq", "-y", "--no-install-recommends", "chromium"),
)


@cache
def find_chromium() -> str | None:
    """Return the path of a Chromium that runs: `CHROMIUM`, one in `PATH`, or Playwright's own, in this order."""
    return next(filter(runs, candidates()), None)


def candidates() -> Iterator[str]:
    """Yield the paths to try. If `CHROMIUM` is set to a path or a command, yield only that."""
    if named := os.environ.get("CHROMIUM"):
        yield shutil.which(named) or named
        return
    yield from filter(None, map(shutil.which, COMMANDS))
    done = subprocess.run([sys.executable, "-c", PRINT_PLAYWRIGHTS_PATH], capture_output=True, text=True)
    yield done.stdout.strip()


def runs(path: str) -> bool:
    """Return whether this is a Chromium that starts; Ubuntu's package, for example, may contain no browser."""
    try:
        return subprocess.run([path, "--version"], capture_output=True, timeout=START_TIMEOUT_SECONDS).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def install_chromium() -> None:
    """Install Playwright's Chromium. If that fails and the user is root, install Debian's package."""
    if succeed(INSTALL_WITH_PLAYWRIGHT) or os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    succeed(INSTALL_WITH_APT)


def succeed(commands: tuple[tuple[str, ...], ...]) -> bool:
    """Run the commands until one fails, and return whether all have succeeded."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in commands:
        print("Trying", *command, flush=True)
        try:
            done = subprocess.run(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=DOWNLOAD_TIMEOUT_SECONDS,
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        if done.returncode != 0:
            return False
    return True


def main() -> int:
    """Make sure that there is a Chromium, and return an exit code: 1 if there is none."""
    if find_chromium() is None and "CHROMIUM" not in os.environ:
        install_chromium()
        find_chromium.cache_clear()
    if find_chromium() is None:
        print(MISSING)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
