"""Put each fault into a copy of the project and check that its test fails, with one copy for each core.

python -m tests.faults              all of them
python -m tests.faults gap epoch    those whose name contains one of these words
"""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import PIPE, STDOUT

from orchestration.processes import process_tree
from tests.faults.catalog import PROJECT_DIR, Fault, load_faults
from tests.harness.processes import kill_at_once

TEST_TIMEOUT_SECONDS = 180
"""A test that takes longer counts as failed. pytest ends it, so that its fixtures still stop their servers."""

PYTEST_EXIT_SECONDS = 60
"""Time for the fixtures of a test that was ended. After it, pytest and every process below it are killed.

Postgres, which `pg_ctl` has detached, and folders such as `/tmp/mv-tests-…` are then left.
"""

SHOWN_CHARACTERS = 3000

# Exit code of pytest when tests ran and at least one failed. Any other code proves nothing.
TESTS_FAILED = 1


def copy_project(copy: Path) -> None:
    """Copy the files that git does not ignore, as they are in the work tree."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=PROJECT_DIR,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (PROJECT_DIR / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(PROJECT_DIR / name, copy / name)


def run_tests(copy: Path, tests: list[str], *, timeout_seconds: float) -> tuple[int, str]:
    """Run tests in the copy; return the exit code and the output. Hanging tests count as failed."""
    command = [
        *(sys.executable, "-B", "-m", "pytest", "-q", "-x", "--no-header"),
        *("--timeout", str(TEST_TIMEOUT_SECONDS), *tests),
    ]
    with subprocess.Popen(command, cwd=copy, stdout=PIPE, stderr=STDOUT, text=True) as pytest:
        try:
            output, _ = pytest.communicate(timeout=timeout_seconds + PYTEST_EXIT_SECONDS)
        except subprocess.TimeoutExpired as timeout:
            kill_at_once(process_tree(pytest.pid))
            return TESTS_FAILED, str(timeout)
    return pytest.returncode, output


def reason_for_survival(copy: Path, fault: Fault) -> str | None:
    """Run the test of one fault; return why it did not catch it, or None if it did."""
    module = copy / fault.module
    text = module.read_text(encoding="utf-8")
    module.write_text(fault.apply(text), encoding="utf-8")
    try:
        code, output = run_tests(copy, [fault.caught_by], timeout_seconds=TEST_TIMEOUT_SECONDS)
    finally:
        module.write_text(text, encoding="utf-8")
    if code == 0:
        return "the test passed"
    return None if code == TESTS_FAILED else f"pytest exited with {code}:\n{output[-SHOWN_CHARACTERS:]}"


class Copies:
    """Copies of the project, each used for one fault at a time."""

    def __init__(self, directory: Path, *, count: int) -> None:
        self._free: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for number in range(count):
            copy_project(directory / str(number))
            self._free.put(directory / str(number))

    def try_fault(self, fault: Fault) -> tuple[Fault, str | None, float]:
        """Return the fault, why its test did not catch it (None if it did), and the duration in seconds."""
        copy = self._free.get()
        began = time.monotonic()
        try:
            return fault, reason_for_survival(copy, fault), time.monotonic() - began
        finally:
            self._free.put(copy)


def main(words: list[str]) -> int:
    chosen = [fault for fault in load_faults() if not words or any(word in fault.name for word in words)]
    if not chosen:
        print(f"No fault has a name that contains one of: {', '.join(words)}")
        return 1
    survivors = 0
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory(prefix="mv-faults-", dir="/tmp") as directory, ThreadPoolExecutor(cores) as pool:
        copies = Copies(Path(directory), count=cores)
        tests = sorted({fault.caught_by for fault in chosen})
        print(f"{len(tests)} tests without a fault", flush=True)
        code, output = run_tests(Path(directory, "0"), tests, timeout_seconds=TEST_TIMEOUT_SECONDS * len(chosen))
        if code != 0:
            print(f"They must pass, but pytest exited with {code}:\n{output[-SHOWN_CHARACTERS:]}")
            return 1
        for number, (fault, problem, seconds) in enumerate(pool.map(copies.try_fault, chosen), 1):
            survivors += problem is not None
            verdict = "caught" if problem is None else "SURVIVED"
            print(f"{number:3}/{len(chosen)}  {verdict:8}  {fault.name} ({seconds:.0f} s)", flush=True)
            if problem is not None:
                print(f"    {fault.caught_by}: {problem}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} faults were caught")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
