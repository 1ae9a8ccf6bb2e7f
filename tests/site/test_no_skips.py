"""A skipped test fails under CI."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.server import clean_environment
from tests.harness.services import PROJECT_DIR

SKIPPED_TEST = """
import pytest

@pytest.mark.skip(reason="too slow")
def test_skipped():
    assert False
"""

SKIPPED_MODULE = """
import pytest

pytest.importorskip("no_such_module")

def test_never_collected():
    assert False
"""

EXPECTED_FAILURE = """
import pytest

@pytest.mark.xfail
def test_expected():
    assert False
"""


def run_tests(directory: Path, source: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run one file of tests with the conftest of the project."""
    (directory / "test_one.py").write_text(source)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", "-n", "0", str(directory)],
        cwd=PROJECT_DIR,
        env={**clean_environment(), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("source", [SKIPPED_TEST, SKIPPED_MODULE])
def test_skip_fails_under_ci(tmp_path: Path, source: str) -> None:
    done = run_tests(tmp_path, source, CI="true")
    assert done.returncode not in (0, 5)
    assert "was skipped; under CI every test must run" in done.stdout


def test_skip_is_allowed_elsewhere(tmp_path: Path) -> None:
    done = run_tests(tmp_path, SKIPPED_TEST)
    assert (done.returncode, "1 skipped" in done.stdout) == (0, True)


def test_expected_failure_is_allowed_under_ci(tmp_path: Path) -> None:
    done = run_tests(tmp_path, EXPECTED_FAILURE, CI="true")
    assert (done.returncode, "1 xfailed" in done.stdout) == (0, True)
