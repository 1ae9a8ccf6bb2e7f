"""Put each fault into a copy of the project and see whether its test notices.

python -m tests.mutants              all of them
python -m tests.mutants hole epoch   those whose name has one of these words in it
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.mutants.mutants import MUTANTS, PROJECT_DIR, Mutant

TEST_TIMEOUT_SECONDS = 180

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


def run_test(copy: Path, test: str) -> tuple[int, str]:
    """Run one test there; its exit code and what it printed. A test that hangs has failed."""
    command = [sys.executable, "-B", "-m", "pytest", "-q", "-x", "--no-header", test]
    try:
        done = subprocess.run(
            command, cwd=copy, capture_output=True, text=True, timeout=TEST_TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as timeout:
        return TESTS_FAILED, str(timeout)
    return done.returncode, done.stdout + done.stderr


def try_mutant(copy: Path, mutant: Mutant) -> str | None:
    """What is wrong with the test, or None: it passes without the fault and fails with it."""
    code, output = run_test(copy, mutant.caught_by)
    if code != 0:
        return f"its test does not pass without it:\n{output[-2000:]}"
    module = copy / mutant.module
    text = module.read_text(encoding="utf-8")
    module.write_text(mutant.mutated(text), encoding="utf-8")
    try:
        code, output = run_test(copy, mutant.caught_by)
    finally:
        module.write_text(text, encoding="utf-8")
    if code == 0:
        return "nobody noticed"
    return None if code == TESTS_FAILED else f"pytest ended with {code}:\n{output[-2000:]}"


def main(words: list[str]) -> int:
    chosen = [mutant for mutant in MUTANTS if not words or any(word in mutant.name for word in words)]
    survivors = 0
    with tempfile.TemporaryDirectory(prefix="mv-mutants-", dir="/tmp") as directory:
        copy = copy_of_project(Path(directory))
        for number, mutant in enumerate(chosen, 1):
            began = time.monotonic()
            problem = try_mutant(copy, mutant)
            survivors += problem is not None
            print(
                f"{number:3}/{len(chosen)}  {'caught' if problem is None else 'SURVIVED'}  {mutant.name}"
                f"  ({time.monotonic() - began:.0f} s)",
                flush=True,
            )
            if problem is not None:
                print(f"         {mutant.caught_by}: {problem}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} mutants were caught")
    return 1 if survivors or not chosen else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
