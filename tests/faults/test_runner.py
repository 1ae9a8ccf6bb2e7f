"""A hanging test counts as failed, and none of its processes is left."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from orchestration.processes import is_alive
from tests.faults import __main__ as runner
from tests.harness.waiting import wait_until

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


_START_TIMEOUT_SECONDS = 60
_END_TIMEOUT_SECONDS = 30


@pytest.mark.parametrize(
    ("before", "exit_seconds"),
    [
        pytest.param("pass", 60, id="pytest-ends-the-test"),
        pytest.param("signal.signal(signal.SIGALRM, signal.SIG_IGN)", 3, id="pytest-hangs-too"),
    ],
)
def test_hanging_test_counts_as_failed_and_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, exit_seconds: float
) -> None:
    child_pid = tmp_path / "child.pid"

    class Pytest(subprocess.Popen[str]):
        """Count the runner's timeout from the start of the test: pytest's own start takes seconds under load."""

        def communicate(self, input: str | None = None, timeout: float | None = None) -> tuple[str, str]:
            wait_until(
                lambda: child_pid.exists() or self.poll() is not None,
                timeout_seconds=_START_TIMEOUT_SECONDS,
                what="the child of the test",
            )
            return super().communicate(input, timeout)

    (tmp_path / "test_hanging.py").write_text(_HANGING_TEST.format(before=before), encoding="utf-8")
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE")
    monkeypatch.setattr(runner, "TEST_TIMEOUT_SECONDS", 2)
    monkeypatch.setattr(runner, "PYTEST_EXIT_SECONDS", exit_seconds)
    monkeypatch.setattr(subprocess, "Popen", Pytest)
    code, output = runner.run_tests(tmp_path, ["test_hanging.py"], timeout_seconds=2)
    assert code == runner.TESTS_FAILED, output
    # The runner kills the child and does not wait for its end.
    pid = int(child_pid.read_text(encoding="utf-8"))
    wait_until(lambda: not is_alive(pid), timeout_seconds=_END_TIMEOUT_SECONDS, what="the end of the child")


def test_words_that_no_fault_contains_are_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert runner.main(["--help", "no such fault"]) == 1
    assert capsys.readouterr().out == "No fault has a name that contains one of: --help, no such fault\n"
