"""A skipped test fails under CI."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.harness.programs import PROJECT_DIR
from tests.harness.server import clean_environment

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


SOURCES = {"skipped": SKIPPED_TEST, "module": SKIPPED_MODULE, "expected": EXPECTED_FAILURE}


def run_tests(
    directory: Path, sources: Mapping[str, str], *options: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run files of tests, given by name, with the conftest of the project."""
    for name, source in sources.items():
        (directory / f"test_{name}.py").write_text(source)
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "tests.conftest",
            "-p",
            "no:cacheprovider",
            "-n",
            "0",
            *options,
            str(directory),
        ],
        cwd=PROJECT_DIR,
        env={**clean_environment(), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_skips_fail_under_ci_and_expected_failures_do_not(tmp_path: Path) -> None:
    run = run_tests(tmp_path, SOURCES, "--continue-on-collection-errors", CI="true")
    assert run.returncode == 1
    assert "test_skipped.py::test_skipped was skipped; under CI every test must run" in run.stdout
    assert "test_module.py was skipped; under CI every test must run" in run.stdout
    assert "1 xfailed, 2 errors" in run.stdout


def test_skips_are_allowed_elsewhere(tmp_path: Path) -> None:
    run = run_tests(tmp_path, SOURCES)
    assert (run.returncode, "2 skipped, 1 xfailed" in run.stdout) == (0, True)
