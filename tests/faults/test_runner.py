"""A hanging test counts as failed, and none of its processes is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import __main__ as runner
from tests.harness.processes import has_ended

_HANGING_TEST = """
import pathlib, signal, subprocess, sys, time

def test_hangs():
    {before}
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    pathlib.Path("child.pid").write_text(str(child.pid))
    try:
        time.sleep(60)
    finally:
        child.kill()
        child.wait()
"""


@pytest.mark.parametrize(
    "before",
    [
        pytest.param("pass", id="pytest-ends-the-test"),
        pytest.param("signal.signal(signal.SIGALRM, signal.SIG_IGN)", id="pytest-hangs-too"),
    ],
)
def test_hanging_test_counts_as_failed_and_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    (tmp_path / "test_hanging.py").write_text(_HANGING_TEST.format(before=before), encoding="utf-8")
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE")
    monkeypatch.setattr(runner, "TEST_TIMEOUT_SECONDS", 2)
    monkeypatch.setattr(runner, "PYTEST_EXIT_SECONDS", 3)
    code, output = runner.run_tests(tmp_path, ["test_hanging.py"], timeout_seconds=2)
    assert code == runner.TESTS_FAILED, output
    assert has_ended(int((tmp_path / "child.pid").read_text(encoding="utf-8")))
