"""`manage.py run_workflow`: starting, errors, and the display with --watch. Needs no worker."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.core.management import call_command

from orchestration.models import Workflow
from tests.harness.commands import command
from tests.harness.programs import PROJECT_DIR
from tests.harness.server import MahavishnuServer

LISTED = f"""\
demo_article  Write an article as an agent would, and ask whether to publish it: answer on the page.
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

NAMES = (
    "demo_article, demo_cancel, demo_command, demo_failure, demo_llamaindex, demo_retry, demo_timeout, source_report"
)

STORED = """
from orchestration.models import Workflow
result = list(
    Workflow.objects.filter(pool_id=pool).values("id", "adapter", "prompt", "params", "status", "total_stages")
)
"""


def stored(server: MahavishnuServer, pool: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = server.services_driver.execute(STORED, pool=pool)
    return rows


def run_url(server: MahavishnuServer, run: dict[str, Any]) -> str:
    return f"{server.http_url}/workflows/{run['id']}"


def stopped_watching(id: str) -> str:
    return f"Stopped watching; workflow {id} is still running. `manage.py watch workflow:{id}` shows its events.\n"


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
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{run['id']}\n", f"{run_url(server, run)}\n")
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
            "CommandError: Workflow demo_retyr not found. Did you mean demo_retry? "
            f"Defined workflows: {NAMES}. Workflows are found in the workflows.py of installed apps and of the "
            "packages in MAHAVISHNU_APPS.",
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
def watch_demo_failure(
    server: MahavishnuServer, pool: str, variables: dict[str, str] | None = None, **streams: Any
) -> Iterator[subprocess.Popen[str]]:
    """Run `run_workflow demo_failure --watch` in a pool without workers."""
    arguments = [sys.executable, "manage.py", "run_workflow", "demo_failure", "--watch", "--pool", pool]
    process = subprocess.Popen(
        arguments, cwd=PROJECT_DIR, env=server.environment | (variables or {}), text=True, **streams
    )
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
        assert (started, warning) == (
            f"{run['id']} (demo_failure) started: {run_url(server, run)}\n",
            no_worker_warning(pool),
        )
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60) == ("", stopped_watching(run["id"]))
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
    assert errors.getvalue() == stopped_watching(run.pk)


class InterruptingStream(io.StringIO):
    """A stream that raises KeyboardInterrupt at its first line."""

    is_interrupted = False

    def write(self, text: str) -> int:
        if not self.is_interrupted:
            self.is_interrupted = True
            raise KeyboardInterrupt
        return super().write(text)
