"""Put each fault into a copy of the project and see whether its test notices.

python -m tests.faults              all of them
python -m tests.faults hole epoch   those whose name has one of these words in it
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.faults.catalog import PROJECT_DIR, Fault, load_faults

TEST_TIMEOUT_SECONDS = 180
SHOWN_CHARACTERS = 3000

# What pytest says when tests ran and at least one failed. Anything else is no proof.
TESTS_FAILED = 1


def copy_of_project(directory: Path) -> Path:
    """Copy what git knows of, as it is in the work tree."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=PROJECT_DIR,
        capture_output=True,
        check=True,
    )
    copy = directory / "project"
    for name in listed.stdout.decode().split("\0"):
        if name and (PROJECT_DIR / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(PROJECT_DIR / name, copy / name)
    return copy


def run_tests(copy: Path, tests: list[str], *, timeout_seconds: float) -> tuple[int, str]:
    """Run tests there; the exit code and what was printed. Tests that hang have failed."""
    command = [sys.executable, "-B", "-m", "pytest", "-q", "-x", "--no-header", *tests]
    try:
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=timeout_seconds, check=False)
    except subprocess.TimeoutExpired as timeout:
        return TESTS_FAILED, str(timeout)
    return done.returncode, done.stdout + done.stderr


def why_it_survived(copy: Path, fault: Fault) -> str | None:
    """What speaks against the test of one mutant; None if the test fails, as it should."""
    module = copy / fault.module
    text = module.read_text(encoding="utf-8")
    module.write_text(fault.apply(text), encoding="utf-8")
    try:
        code, output = run_tests(copy, [fault.caught_by], timeout_seconds=TEST_TIMEOUT_SECONDS)
    finally:
        module.write_text(text, encoding="utf-8")
    if code == 0:
        return "nobody noticed"
    return None if code == TESTS_FAILED else f"pytest ended with {code}:\n{output[-SHOWN_CHARACTERS:]}"


def main(words: list[str]) -> int:
    chosen = [fault for fault in load_faults() if not words or any(word in fault.name for word in words)]
    survivors = 0
    with tempfile.TemporaryDirectory(prefix="mv-mutants-", dir="/tmp") as directory:
        copy = copy_of_project(Path(directory))
        tests = sorted({fault.caught_by for fault in chosen})
        print(f"{len(tests)} tests without any mutant", flush=True)
        code, output = run_tests(copy, tests, timeout_seconds=TEST_TIMEOUT_SECONDS * len(chosen))
        if code != 0:
            print(f"They have to pass, and pytest ended with {code}:\n{output[-SHOWN_CHARACTERS:]}")
            return 1
        for number, fault in enumerate(chosen, 1):
            began = time.monotonic()
            problem = why_it_survived(copy, fault)
            survivors += problem is not None
            verdict = "caught" if problem is None else "SURVIVED"
            print(f"{number:3}/{len(chosen)}  {verdict:8}  {fault.name} ({time.monotonic() - began:.0f} s)", flush=True)
            if problem is not None:
                print(f"    {fault.caught_by}: {problem}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} mutants were caught")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
