"""What `make` does before the project's own code runs."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.harness.server import clean_environment
from tests.harness.services import PROJECT_DIR


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with all that make looks at, and a `.venv` that has nothing installed."""
    for name in ("Makefile", "requirements.txt", "requirements-dev.txt"):
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
    return make(checkout, "--dry-run", target).stdout


@pytest.mark.parametrize(("target", "file"), [("serve", "requirements.txt"), ("test", "requirements-dev.txt")])
def test_what_is_installed_is_installed_again_only_when_it_changed(checkout: Path, target: str, file: str) -> None:
    first = planned(checkout, target)
    assert f"pip install --quiet --disable-pip-version-check --no-input -r {file}" in first
    stamp = re.search(r"^touch (\S+)", first, flags=re.MULTILINE)
    assert stamp is not None
    (checkout / stamp[1]).touch()
    assert "pip install" not in planned(checkout, target)
    with (checkout / "requirements.txt").open("a") as requirements:
        requirements.write("one-more\n")
    assert "pip install" in planned(checkout, target)


def test_without_a_python_that_is_new_enough_make_says_what_it_needs(checkout: Path) -> None:
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
    assert done.stderr.startswith("Mahavishnu needs Python 3.11 or newer, and found none.")


def test_help_names_every_target(checkout: Path) -> None:
    told = re.findall(r"^make (\w+)", make(checkout, "help").stdout, flags=re.MULTILINE)
    phony = re.search(r"^\.PHONY: (.*)$", (checkout / "Makefile").read_text(), flags=re.MULTILINE)
    assert phony is not None
    assert sorted(["help", *told]) == sorted(phony[1].split())
