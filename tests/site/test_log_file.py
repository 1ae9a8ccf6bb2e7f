"""The rotating log file."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from mahavishnu_site.log_file import SharedRotatingFileHandler, open_log_file
from tests.site.test_env import check


def log(handler: logging.Handler, text: str) -> None:
    handler.handle(logging.LogRecord("test", logging.INFO, __file__, 1, text, None, None))


@pytest.fixture
def two_processes(tmp_path: Path) -> Iterator[tuple[SharedRotatingFileHandler, SharedRotatingFileHandler]]:
    """The handlers of two processes that log to one file of at most 64 bytes."""
    one, other = (SharedRotatingFileHandler(tmp_path / "log", maxBytes=64, backupCount=2) for _ in range(2))
    yield one, other
    one.close()
    other.close()


def test_a_process_follows_when_another_has_rotated_the_file(
    two_processes: tuple[SharedRotatingFileHandler, SharedRotatingFileHandler], tmp_path: Path
) -> None:
    one, other = two_processes
    log(other, "before")
    log(one, "a" * 60)
    log(other, "b")
    assert (tmp_path / "log.1").read_text() == "before\n"
    assert (tmp_path / "log").read_text() == "a" * 60 + "\nb\n"


def test_a_log_file_that_was_removed_is_made_again(
    two_processes: tuple[SharedRotatingFileHandler, SharedRotatingFileHandler], tmp_path: Path
) -> None:
    one, _ = two_processes
    log(one, "before")
    (tmp_path / "log").unlink()
    log(one, "after")
    assert (tmp_path / "log").read_text() == "after\n"


def test_a_log_file_that_cannot_be_opened_stops_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    handler = open_log_file(str(tmp_path))
    log(handler, "lost")
    assert capsys.readouterr().err == (
        f"The log file {tmp_path} cannot be opened (Is a directory): logging to the console alone. "
        "MAHAVISHNU_LOG_FILE names another file.\n"
    )


def test_a_command_runs_without_its_log_file_and_says_so(tmp_path: Path) -> None:
    done = check(tmp_path, MAHAVISHNU_LOG_FILE=str(tmp_path))
    assert done.returncode == 0
    assert done.stderr.startswith(f"The log file {tmp_path} cannot be opened (Is a directory)")
