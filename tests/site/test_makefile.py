"""`make`: what it installs, and its help."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.harness.programs import PROJECT_DIR
from tests.harness.server import clean_environment


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a folder with the files that make reads, and a `.venv` without packages."""
    for name in ("Makefile", "requirements.lock", "requirements-dev.lock"):
        shutil.copy(PROJECT_DIR / name, tmp_path)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "pip").touch()
    return tmp_path


def make(checkout: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", *arguments],
        cwd=checkout,
        env={**clean_environment(), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def planned(checkout: Path, target: str) -> str:
    """Return the commands that make would run."""
    return make(checkout, "--dry-run", target).stdout


@pytest.mark.parametrize(("target", "file"), [("serve", "requirements.lock"), ("test", "requirements-dev.lock")])
def test_make_installs_hashed_pins_again_only_when_they_change(checkout: Path, target: str, file: str) -> None:
    first = planned(checkout, target)
    assert f"pip install --quiet --disable-pip-version-check --no-input --require-hashes -r {file}" in first
    stamp = re.search(r"^touch (\S+)", first, flags=re.MULTILINE)
    assert stamp is not None
    (checkout / stamp[1]).touch()
    assert "pip install" not in planned(checkout, target)
    with (checkout / file).open("a") as lock:
        lock.write("one-more==1\n")
    assert "pip install" in planned(checkout, target)


@pytest.mark.parametrize(("target", "file"), [("serve", "requirements.lock"), ("test", "requirements-dev.lock")])
def test_make_installs_again_after_a_lock_file_was_changed_to_and_fro(checkout: Path, target: str, file: str) -> None:
    python = checkout / ".venv" / "bin" / "python"
    python.write_text(f"#!/bin/sh\necho $* >> {checkout}/calls\n")
    python.chmod(0o755)
    first = (checkout / file).read_text()
    for text in (first, f"{first}one-more==1\n", first, first):
        (checkout / file).write_text(text)
        assert make(checkout, target).returncode == 0
    calls = (checkout / "calls").read_text()
    assert calls.count(f"--require-hashes -r {file}\n") == 3


def test_make_serve_keeps_the_stamp_of_the_same_development_packages(checkout: Path) -> None:
    python = checkout / ".venv" / "bin" / "python"
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    assert make(checkout, "test").returncode == 0
    (stamp,) = (checkout / ".venv").glob(".development-*")
    with (checkout / "requirements.lock").open("a") as lock:
        lock.write("one-more==1\n")
    assert make(checkout, "serve").returncode == 0
    assert stamp.exists()


def test_make_reports_a_missing_python(checkout: Path) -> None:
    (checkout / ".venv" / "bin" / "pip").unlink()
    commands = checkout / "commands"
    commands.mkdir()
    for name in ("make", "sh", "cat", "cksum", "tr"):
        found = shutil.which(name)
        assert found is not None
        (commands / name).symlink_to(found)
    old = commands / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = make(checkout, "serve", PATH=str(commands))
    assert done.returncode != 0
    assert done.stderr.startswith("Python 3.11 or newer was not found.")


def test_make_help_lists_every_target(checkout: Path) -> None:
    listed = re.findall(r"^make (\w+)", make(checkout, "help").stdout, flags=re.MULTILINE)
    phony = re.search(r"^\.PHONY: (.*)$", (checkout / "Makefile").read_text(), flags=re.MULTILINE)
    assert phony is not None
    assert sorted(["help", *listed]) == sorted(phony[1].split())


@pytest.mark.parametrize(("exit_code", "remembered"), [(0, True), (1, False)])
def test_make_test_remembers_only_a_browser_that_was_found(checkout: Path, exit_code: int, remembered: bool) -> None:
    python = checkout / ".venv" / "bin" / "python"
    python.write_text(f"#!/bin/sh\necho $* >> {checkout}/calls\ncase $* in *chromium) exit {exit_code};; esac\n")
    python.chmod(0o755)
    for _ in range(2):
        assert make(checkout, "test").returncode == 0
    calls = (checkout / "calls").read_text().splitlines()
    assert calls.count("-m tests.harness.chromium") == (1 if remembered else 2)
