"""The rotating log file."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mahavishnu_site.log_file import SharedRotatingFileHandler, open_log_file
from tests.harness.programs import PROJECT_DIR
from tests.harness.waiting import wait_until
from tests.site.check_command import run_check

LOG_IN_A_LOOP = """
import logging, sys
from mahavishnu_site.log_file import SharedRotatingFileHandler, open_log_file
handler = open_log_file(sys.argv[1])
while True:
    handler.handle(logging.LogRecord("test", logging.INFO, "", 1, "loop", None, None))
"""


def log(handler: logging.Handler, text: str) -> None:
    handler.handle(logging.LogRecord("test", logging.INFO, __file__, 1, text, None, None))


def test_log_file_is_reopened_after_another_process_has_rotated_it(tmp_path: Path) -> None:
    one, other = (SharedRotatingFileHandler(tmp_path / "log", maxBytes=64, backupCount=2) for _ in range(2))
    log(other, "before")
    log(one, "a" * 60)
    log(other, "b")
    one.close()
    other.close()
    assert (tmp_path / "log.1").read_text() == "before\n"
    assert (tmp_path / "log").read_text() == "a" * 60 + "\nb\n"


def test_process_stopped_while_it_logs_blocks_no_other_process(tmp_path: Path) -> None:
    path = tmp_path / "log"
    looping = subprocess.Popen([sys.executable, "-c", LOG_IN_A_LOOP, path], cwd=PROJECT_DIR)
    handler = open_log_file(str(path))
    try:
        wait_until(lambda: path.exists() and path.stat().st_size > 0, timeout_seconds=60, what="the first line")
        looping.send_signal(signal.SIGSTOP)
        thread = threading.Thread(target=log, args=(handler, "not blocked"), daemon=True)
        thread.start()
        thread.join(timeout=60)
        assert not thread.is_alive()
    finally:
        looping.kill()
        looping.wait()
        handler.close()
    assert "not blocked" in path.read_text()


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
    done = run_check(tmp_path, MAHAVISHNU_LOG_FILE=str(tmp_path))
    assert done.returncode == 0
    assert done.stderr.startswith(f"The log file {tmp_path} cannot be opened (Is a directory)")
