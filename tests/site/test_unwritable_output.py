"""Output that cannot be written, to a full disk or a closed pipe, costs lines and ends nothing."""

from __future__ import annotations

import io
import logging
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mahavishnu_site.log_handlers import ConsoleHandler
from mahavishnu_site.serve.prefixed_output import PrefixedOutput
from tests.harness.fixtures import NewDatabase
from tests.harness.programs import PROJECT_DIR
from tests.harness.serve import StartServe
from tests.harness.server import clean_environment
from tests.harness.waiting import wait_until

FULL = Path("/dev/full")
LIMIT_SECONDS = 60


def test_serve_runs_while_nothing_can_be_written(serve: StartServe) -> None:
    run = serve(output=FULL)
    run.wait_healthy()
    log = (run.var_dir / "websocket.log").read_text()
    assert log.count(" started (pid ") == 4
    run.signal_group(signal.SIGTERM)
    run.wait_ended()
    assert run.main.returncode == 0


@contextmanager
def closed_pipe() -> Iterator[int]:
    """Yield a pipe that nothing reads."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        yield writer
    finally:
        os.close(writer)


@pytest.mark.parametrize("redirection", ["", ">&- 2>&-", "<&- >&- 2>&-", ">/dev/full 2>&1"])
def test_scheduler_runs_while_nothing_can_be_written(
    tmp_path: Path, new_database: NewDatabase, redirection: str
) -> None:
    database_url = new_database("sqlite", var_dir=tmp_path)
    log = tmp_path / "websocket.log"
    with closed_pipe() as pipe:
        scheduler = subprocess.Popen(
            f"exec {shlex.quote(sys.executable)} manage.py run_scheduler {redirection}",
            shell=True,
            cwd=PROJECT_DIR,
            env={**clean_environment(), "MAHAVISHNU_VAR_DIR": str(tmp_path), "DATABASE_URL": database_url},
            stdout=pipe,
            stderr=pipe,
        )
    try:
        wait_until(
            lambda: scheduler.poll() is not None or (log.exists() and "Scheduler started" in log.read_text()),
            timeout_seconds=LIMIT_SECONDS,
            what="the start",
        )
        assert scheduler.poll() is None
        scheduler.terminate()
        assert scheduler.wait(LIMIT_SECONDS) == 0
    finally:
        scheduler.kill()
        scheduler.wait()
    # A file that the process opened as its standard output would have been written to.
    assert (tmp_path / "mahavishnu.sqlite3").read_bytes().startswith(b"SQLite format 3\0")


def test_full_log_file_is_not_reported_line_by_line(tmp_path: Path, new_database: NewDatabase) -> None:
    variables = {"MAHAVISHNU_LOG_FILE": str(FULL), "DATABASE_URL": new_database("sqlite", var_dir=tmp_path)}
    scheduler = subprocess.Popen(
        [sys.executable, "manage.py", "run_scheduler"],
        cwd=PROJECT_DIR,
        env={**clean_environment(), "MAHAVISHNU_VAR_DIR": str(tmp_path), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert scheduler.stderr is not None
    line = scheduler.stderr.readline()
    scheduler.terminate()
    output, errors = scheduler.communicate(timeout=LIMIT_SECONDS)
    assert line.endswith("Scheduler started\n")
    assert (scheduler.returncode, output, errors) == (0, "", "")


def log_to(handler: logging.Handler, message: str, *arguments: object) -> None:
    handler.handle(logging.LogRecord("test", logging.INFO, __file__, 1, message, arguments, None))


def test_console_handler_drops_only_lines_that_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with FULL.open("w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        handler = ConsoleHandler()
        monkeypatch.undo()
    log_to(handler, "closed meanwhile")
    assert capsys.readouterr().err == ""
    log_to(handler, "%d", "no number")
    assert "Logging error" in capsys.readouterr().err


def test_console_handler_writes_what_its_encoding_lacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as file:
        monkeypatch.setattr(sys, "stderr", file)
        log_to(ConsoleHandler(), "Å \udc80")
        monkeypatch.undo()
    assert (tmp_path / "log").read_bytes() == b"\xc3\x85 \\udc80\n"


def test_console_handler_uses_a_stream_that_is_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    log_to(ConsoleHandler(), "line")
    assert stream.getvalue() == "line\n"


def test_prefixed_output_writes_again_when_the_disk_has_room() -> None:
    with FULL.open("wb", buffering=0) as full:
        output = PrefixedOutput(full.fileno(), names=["web"])
        output.write("lost\n")
        assert output.targets() == []
        reader, writer = os.pipe()
        # The same descriptor, as a disk that has room again.
        os.dup2(writer, full.fileno())
        output.write("kept\n")
        assert os.read(reader, 100) == b"kept\n"
        os.close(reader)
        os.close(writer)
