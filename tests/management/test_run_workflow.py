"""`manage.py run_workflow`: starting, errors, and the display with --watch. Needs no worker."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.core.management import call_command

from orchestration.models import Workflow
from tests.harness.commands import command
from tests.harness.programs import PROJECT_DIR
from tests.harness.server import MahavishnuServer
from tests.harness.waiting import wait_until

LISTED = f"""\
demo_cancel  Work until the stage beside it cancels the run.
    after_seconds=3.0
demo_command  Run programs: compile every Python file below `path`, and count them.
    path={str(PROJECT_DIR)!r}
demo_failure  Fail in the second of three stages; the third never runs.
demo_llamaindex  Summarize the largest files below `path` with a LlamaIndex workflow; its model needs no network.
    path={str(PROJECT_DIR)!r}
demo_retry  Fail `failures` times, wait longer after each failure, and succeed.
    failures=2
demo_timeout  Work without end, in a run with a time limit of four seconds.
source_report  Measure every Python file below `path`, and write a report to the file `report` or to a temporary file.
    path={str(PROJECT_DIR)!r}, report=None
"""

NAMES = "demo_cancel, demo_command, demo_failure, demo_llamaindex, demo_retry, demo_timeout, source_report"

STORED = """
from orchestration.models import Workflow
result = list(
    Workflow.objects.filter(pool_id=pool).values("id", "adapter", "prompt", "params", "status", "total_stages")
)
"""

CLAIM = """
from orchestration import services
from orchestration.models import Stage
slot = services.Slot(worker_id=services.join_pool(name=pool, process=pool, pool_id=pool), process=pool)
services.claim_stage(Stage.objects.get(workflow_id=workflow_id, name="prepare").pk, 1, slot=slot)
"""

COMPLETE = """
from datetime import timedelta
from orchestration import services
from orchestration.models import Stage
stage = Stage.objects.get(workflow_id=workflow_id, name="prepare")
slot = services.Slot(worker_id=stage.worker_id, process=stage.worker.process)
services.complete_attempt(stage.pk, 1, slot=slot, output=None, at=stage.started_at + timedelta(milliseconds=1234))
"""

REPORT = """
from orchestration import services
from orchestration.models import Stage
stage = Stage.objects.get(workflow_id=workflow_id, name="prepare")
services.report_progress(stage.pk, stage.attempt, progress=0.5, message=progress)
services.report_message(stage.pk, stage.attempt, message=message)
"""

EVIL = "a\x1b]0;title\x07\x1b[2J\x9b2J\u202ereversed\rover"
ESCAPED = r"a\x1b]0;title\x07\x1b[2J\x9b2J\u202ereversed\rover"


def stored(server: MahavishnuServer, pool: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = server.services_driver.execute(STORED, pool=pool)
    return rows


def no_worker_warning(pool: str) -> str:
    return (
        f"No worker is online for pool {pool}; the workflow stays queued until one starts. "
        f"`make serve` starts a worker for pool local, `celery -A mahavishnu_site worker -Q {pool}` for this pool.\n"
    )


def test_without_a_name_lists_all_workflows(server: MahavishnuServer) -> None:
    done = server.manage("run_workflow")
    assert (done.returncode, done.stdout, done.stderr) == (0, LISTED, "")


def test_starts_a_workflow_with_the_given_parameters(server: MahavishnuServer, unique: Callable[[str], str]) -> None:
    pool = unique("pool")
    options = ("--prompt", "Try it", "--pool", pool, "--param", "path=~/code", "--param", "report=2026")
    done = server.manage("run_workflow", "source_report", *options)
    (run,) = stored(server, pool)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{run['id']}\n", "")
    assert run == {
        "id": run["id"],
        "adapter": "python",
        "prompt": "Try it",
        "params": {"path": "~/code", "report": "2026"},
        "status": "running",
        "total_stages": 5,
    }


def test_second_start_with_the_same_key_returns_the_existing_run(
    server: MahavishnuServer, unique: Callable[[str], str]
) -> None:
    pool, key = unique("pool"), unique("ticket")
    first, second = (command(server, "run_workflow", "demo_failure", "--pool", pool, "--key", key) for _ in range(2))
    (run,) = stored(server, pool)
    assert (first.stdout, second.stdout) == (f"{run['id']}\n", f"{run['id']}\n")


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (
            ("demo_retyr",),
            1,
            f"CommandError: Workflow demo_retyr not found. Defined workflows: {NAMES}. Workflows are found in the "
            "workflows.py of installed apps and of the packages in MAHAVISHNU_APPS.",
        ),
        (
            ("demo_retry", "--param", "failure=3"),
            1,
            "CommandError: Cannot start demo_retry: got an unexpected keyword argument 'failure'. "
            "Parameters: failures=2.",
        ),
        (
            ("demo_retry", "--param", "failures=many"),
            1,
            "CommandError: Cannot start demo_retry: failures is 'many'; expected int. Parameters: failures=2.",
        ),
        (
            ("demo_failure", "--param", "a=1"),
            1,
            "CommandError: Cannot start demo_failure: got an unexpected keyword argument 'a'. Parameters: none.",
        ),
        (
            ("demo_retry", "--pool", "a pool"),
            1,
            "CommandError: pool_id is 'a pool'; expected 1 to 128 of the characters A-Z a-z 0-9 . _ -.",
        ),
        (
            ("demo_retry", "--param", "failures"),
            2,
            "manage.py run_workflow: error: argument --param: 'failures': expected KEY=VALUE, such as failures=3",
        ),
    ],
)
def test_invalid_arguments_are_rejected(
    server: MahavishnuServer, arguments: tuple[str, ...], code: int, error: str
) -> None:
    done = command(server, "run_workflow", *arguments)
    assert (done.returncode, done.stdout, done.stderr.splitlines()[-1]) == (code, "", error)


def test_draining_pool_rejects_a_start(server: MahavishnuServer, unique: Callable[[str], str]) -> None:
    pool = unique("pool")
    server.services.create_pool(pool_id=pool)
    server.services.drain_pool(pool_id=pool)
    done = command(server, "run_workflow", "demo_failure", "--pool", pool)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"CommandError: Pool {pool} is draining and accepts no new workflows.\n"


@contextmanager
def watch_demo_failure(server: MahavishnuServer, pool: str, **streams: Any) -> Iterator[subprocess.Popen[str]]:
    """Run `run_workflow demo_failure --watch` in a pool without workers."""
    arguments = [sys.executable, "manage.py", "run_workflow", "demo_failure", "--watch", "--pool", pool]
    process = subprocess.Popen(arguments, cwd=PROJECT_DIR, env=server.environment, text=True, **streams)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_ctrl_c_stops_watching_and_not_the_run(server: MahavishnuServer, unique: Callable[[str], str]) -> None:
    pool = unique("pool")
    with watch_demo_failure(server, pool, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        started, warning = process.stdout.readline(), process.stderr.readline()
        (run,) = stored(server, pool)
        assert (started, warning) == (f"{run['id']} started\n", no_worker_warning(pool))
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60) == ("", f"Stopped watching; workflow {run['id']} is still running.\n")
        assert process.returncode == 130
    assert stored(server, pool) == [run]
    assert run["status"] == "running"


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("valkey")
def test_ctrl_c_before_any_output_stops_watching(unique: Callable[[str], str]) -> None:
    pool, errors = unique("pool"), InterruptingStream()
    with pytest.raises(KeyboardInterrupt):
        call_command("run_workflow", "demo_failure", "--watch", "--pool", pool, stdout=io.StringIO(), stderr=errors)
    run = Workflow.objects.get(pool_id=pool)
    assert run.status == "running"
    assert errors.getvalue() == f"Stopped watching; workflow {run.pk} is still running.\n"


class InterruptingStream(io.StringIO):
    """A stream that raises KeyboardInterrupt at its first line."""

    is_interrupted = False

    def write(self, text: str) -> int:
        if not self.is_interrupted:
            self.is_interrupted = True
            raise KeyboardInterrupt
        return super().write(text)


def test_watch_draws_a_progress_bar_on_a_terminal(server: MahavishnuServer, unique: Callable[[str], str]) -> None:
    pool = unique("pool")
    with watch_on_terminal(server, pool, columns=100) as (process, output, is_shown):
        (run,) = stored(server, pool)
        services, workflow = server.services, {"workflow_id": run["id"]}
        server.services_driver.execute(CLAIM, **workflow, pool=pool)
        wait_until(lambda: is_shown("0 of 3 stages; prepare"), timeout_seconds=60, what="a running stage")
        assert f"prepare started on {pool}-1" in screen(output)
        report = {"progress": "half way", "message": "Half of the files are read"}
        server.services_driver.execute(REPORT, **workflow, **report)
        wait_until(lambda: is_shown("prepare: Half of the files are read"), timeout_seconds=60, what="a log message")
        output.clear()
        wait_until(lambda: is_shown("0 of 3 stages; prepare half way"), timeout_seconds=60, what="the progress")
        server.services_driver.execute(COMPLETE, **workflow)
        wait_until(lambda: is_shown("1 of 3 stages; running"), timeout_seconds=60, what="a completed stage")
        services.cancel_workflow(**workflow, reason="Not needed")
        wait_until(lambda: is_shown(f"{run['id']} cancelled"), timeout_seconds=60, what="the end")
        assert process.wait(timeout=60) == 4
    text = screen(output)
    assert re.search(r" 33% \|█{10} {20}\| \d\d:\d\d 1 of 3 stages; running", text)
    assert "prepare completed after 1.234 s" in text
    assert f"{run['id']} cancelled: Not needed" in text


def test_watch_lets_no_workflow_control_the_terminal(server: MahavishnuServer, unique: Callable[[str], str]) -> None:
    pool = unique("pool")
    with watch_on_terminal(server, pool, columns=200) as (process, output, is_shown):
        (run,) = stored(server, pool)
        services, workflow = server.services, {"workflow_id": run["id"]}
        server.services_driver.execute(CLAIM, **workflow, pool=pool)
        report = {"progress": f"{EVIL} half", "message": f"one\r\n{EVIL}\n{run['id']} completed\n"}
        server.services_driver.execute(REPORT, **workflow, **report)
        wait_until(lambda: is_shown(f"{ESCAPED} half"), timeout_seconds=60, what="the progress")
        services.cancel_workflow(**workflow, reason=f"{EVIL}\n{run['id']} completed")
        wait_until(lambda: is_shown(f"{run['id']} cancelled: "), timeout_seconds=60, what="the end")
        assert process.wait(timeout=60) == 4
    text = screen(output)
    # The bar itself moves the cursor, and Django writes standard error in red.
    assert set(re.findall(r"[\x00-\x1f\x7f-\x9f\u202e]", re.sub(r"\x1b\[([\d;]*m|A)", "", text))) <= {"\r", "\n"}
    lines = re.split(r"[\r\n]+", text)
    logged = [line for line in lines if line.startswith("prepare: ")]
    assert logged == [r"prepare: one\r", f"prepare: {ESCAPED}", f"prepare: {run['id']} completed"]
    assert rf"{run['id']} cancelled: {ESCAPED}\n{run['id']} completed" in lines


@contextmanager
def watch_on_terminal(
    server: MahavishnuServer, pool: str, *, columns: int
) -> Iterator[tuple[subprocess.Popen[str], list[bytes], Callable[[str], bool]]]:
    """Watch a run on a terminal, from its first bar on.

    Yields the process, its output so far, and a function that reads more and returns whether a text is on the screen.
    """
    output: list[bytes] = []
    with (
        terminal(columns=columns) as (terminal_end, reader_end),
        watch_demo_failure(server, pool, stdin=terminal_end, stdout=terminal_end, stderr=terminal_end) as process,
    ):
        os.close(terminal_end)

        def is_shown(text: str) -> bool:
            output.append(os.read(reader_end, 65536))
            return text in screen(output)

        wait_until(lambda: is_shown("0 of 3 stages; running"), timeout_seconds=60, what="the bar")
        yield process, output, is_shown


@contextmanager
def terminal(*, columns: int) -> Iterator[tuple[int, int]]:
    """Open a pseudo-terminal. Yields the program's end, which the test closes, and the end that reads its output."""
    reader_end, terminal_end = pty.openpty()
    fcntl.ioctl(terminal_end, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    try:
        yield terminal_end, reader_end
    finally:
        os.close(reader_end)


def screen(output: list[bytes]) -> str:
    return b"".join(output).decode("utf-8", "replace")
