"""The tests of the JavaScript client that are written in JavaScript."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.harness.browser import NODE
from tests.harness.programs import PROJECT_DIR

TESTS = sorted(Path(__file__).parent.glob("*.test.mjs"))
TIMEOUT_MS = 10_000
FOLDERS = ("benchmarks", "clients", "realtime", "tests")
SCRIPTS = [path for folder in FOLDERS for path in sorted((PROJECT_DIR / folder).rglob("*js")) if path.is_file()]


def test_client_with_a_scripted_server() -> None:
    # A test that fails leaves a client that connects again and again.
    options = ("--test-reporter=tap", f"--test-timeout={TIMEOUT_MS}", "--test-force-exit")
    command = [NODE, "--test", *options, *map(str, TESTS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_javascript_is_valid(path: Path) -> None:
    checked = subprocess.run([NODE, "--check", path], capture_output=True, text=True, timeout=60, check=False)
    assert checked.returncode == 0, checked.stderr
