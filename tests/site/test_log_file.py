"""The rotating log file."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from mahavishnu_site.log_file import open_log_file
from tests.harness.services import PROJECT_DIR
from tests.site.test_settings import check

PROCESSES = 3
LINES = 300

WRITE_LINES = """
import logging, sys
from mahavishnu_site import log_file
log_file.MAX_LOG_FILE_BYTES, log_file.MAX_OLD_LOG_FILES = 5_000, 100
handler = log_file.open_log_file(sys.argv[1])
for number in range(int(sys.argv[3])):
    handler.handle(logging.LogRecord("test", logging.INFO, "", 1, f"{sys.argv[2]} {number}", None, None))
handler.close()
"""


def log(handler: logging.Handler, text: str) -> None:
    handler.handle(logging.LogRecord("test", logging.INFO, __file__, 1, text, None, None))


def test_log_file_loses_no_line_when_several_processes_rotate_it(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WRITE_LINES, tmp_path / "log", str(number), str(LINES)], cwd=PROJECT_DIR
        )
        for number in range(PROCESSES)
    ]
    assert [process.wait(timeout=60) for process in processes] == [0] * PROCESSES
    files = list(tmp_path.glob("log*"))
    assert len(files) > 1
    lines = sorted(line for file in files for line in file.read_text().splitlines())
    assert lines == sorted(f"{process} {number}" for process in range(PROCESSES) for number in range(LINES))


def test_log_file_that_was_removed_is_created_again(tmp_path: Path) -> None:
    handler = open_log_file(str(tmp_path / "log"))
    log(handler, "before")
    (tmp_path / "log").unlink()
    log(handler, "after")
    handler.close()
    assert (tmp_path / "log").read_text() == "after\n"


def test_log_file_that_cannot_be_opened_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    handler = open_log_file(str(tmp_path))
    log(handler, "lost")
    assert capsys.readouterr().err == (
        f"The log file {tmp_path} cannot be opened (Is a directory); logging to the console only. "
        "Set MAHAVISHNU_LOG_FILE to another file.\n"
    )


def test_command_runs_without_its_log_file(tmp_path: Path) -> None:
    done = check(tmp_path, MAHAVISHNU_LOG_FILE=str(tmp_path))
    assert done.returncode == 0
    assert done.stderr.startswith(f"The log file {tmp_path} cannot be opened (Is a directory)")
