"""Which Chromium the browser tests use, and how `make test` installs one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import chromium
from tests.harness.chromium import MISSING, find_chromium
from tests.site.test_no_skips import run_tests

WORKS = "#!/bin/sh\n"
FAILS = "#!/bin/sh\nexit 1\n"

BROWSER_TEST = """
import pytest

@pytest.mark.browser
@pytest.mark.asyncio
async def test_browser(browser):
    assert False
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give the one folder in `PATH`; it is empty, and Playwright has no Chromium."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setattr(chromium, "PRINT_PLAYWRIGHTS_PATH", f"print('{tmp_path}/playwrights')")
    monkeypatch.setattr(chromium, "INSTALL_WITH_PLAYWRIGHT", (("playwright-install",),))
    find_chromium.cache_clear()
    yield tmp_path
    find_chromium.cache_clear()


def add(path: Path, script: str) -> str:
    path.write_text(script)
    path.chmod(0o755)
    return str(path)


def creates(path: Path) -> str:
    """Return a script that creates an executable file."""
    return f"#!/bin/sh\necho '#!/bin/sh' > {path}\n/bin/chmod +x {path}\n"


def test_find_chromium_prefers_the_variable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(folder / "chromium", WORKS)
    monkeypatch.setenv("CHROMIUM", add(folder / "other", WORKS))
    assert find_chromium() == str(folder / "other")


def test_find_chromium_skips_a_command_that_fails(folder: Path) -> None:
    add(folder / "chromium", FAILS)
    add(folder / "google-chrome", WORKS)
    assert find_chromium() == str(folder / "google-chrome")


def test_find_chromium_falls_back_to_playwrights(folder: Path) -> None:
    add(folder / "playwrights", WORKS)
    assert find_chromium() == str(folder / "playwrights")


def test_install_uses_playwright_first(folder: Path) -> None:
    add(folder / "playwright-install", creates(folder / "playwrights"))
    assert chromium.main() == 0


def test_install_uses_apt_as_root_when_playwright_fails(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    add(folder / "playwright-install", FAILS)
    add(folder / "apt-get", creates(folder / "chromium"))
    assert chromium.main() == 0
    assert find_chromium() == str(folder / "chromium")


@pytest.mark.parametrize("user_id", [0, 1000])
def test_install_reports_that_nothing_worked(
    folder: Path, user_id: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: user_id)
    add(folder / "playwright-install", FAILS)
    add(folder / "apt-get", FAILS)
    assert chromium.main() == 1
    assert capsys.readouterr().out.splitlines()[-1] == MISSING


def test_browser_tests_are_skipped_without_a_chromium(tmp_path: Path) -> None:
    done = run_tests(tmp_path, {"browser": BROWSER_TEST}, CHROMIUM="/nowhere")
    assert (done.returncode, "1 skipped" in done.stdout) == (0, True)
