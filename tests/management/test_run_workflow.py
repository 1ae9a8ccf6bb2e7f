"""`manage.py run_workflow` itself: what it starts, what it refuses, and what a person sees. No worker is needed."""

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
from tests.harness.server import MahavishnuServer
from tests.harness.services import PROJECT_DIR
from tests.harness.waiting import wait_until

LISTED = f"""\
demo_cancel  Work for ever, until the stage beside it loses patience and cancels the run.
    after_seconds=3.0
demo_command  Let programs do the work: compile every Python file below `path`, and count them.
    path={str(PROJECT_DIR)!r}
demo_failure  Fail in the second of three stages; the third never runs.
demo_llamaindex  Let a LlamaIndex workflow summarise the largest files below `path`; its model needs no network.
    path={str(PROJECT_DIR)!r}
demo_retry  Fail so many times, wait a little longer each time, and then succeed.
    failures=2
demo_timeout  Work for ever, in a run that may take four seconds.
source_report  Measure every Python file below `path` and write a report, to the file `report` or to a temporary one.
    path={str(PROJECT_DIR)!r}, report=None
"""

NAMES = "demo_cancel, demo_command, demo_failure, demo_llamaindex, demo_retry, demo_timeout, source_report"

STORED = """
from orchestration.models import Workflow
result = list(
    Workflow.objects.filter(pool_id=pool).values("id", "adapter", "prompt", "params", "status", "total_stages")
)
"""

SAY = """
from orchestration import services
from orchestration.models import Stage
stage = Stage.objects.get(workflow_id=workflow_id, name="prepare")
services.report_progress(stage.pk, stage.attempt, progress=0.5, message="half way")
services.report_message(stage.pk, stage.attempt, message="I go on")
"""


def stored(server: MahavishnuServer, pool: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.services_driver.execute(STORED, pool=pool)
    return found


def hint(pool: str) -> str:
    return (
        f"No worker serves the pool {pool}, and the run waits for one. `make serve` starts one for the pool local, "
        f"`celery -A mahavishnu_site worker -Q {pool}` one for this.\n"
    )


def test_without_a_name_it_lists_every_workflow(server: MahavishnuServer) -> None:
    done = server.manage("run_workflow")
    assert (done.returncode, done.stdout, done.stderr) == (0, LISTED, "")


def test_a_run_is_started_with_what_was_given(server: MahavishnuServer, unique: Callable[[str], str]) -> None:
    pool = unique("pool")
    given = ("--prompt", "Try it", "--pool", pool, "--param", "path=~/code", "--param", 'report={"a": [1, null]}')
    done = server.manage("run_workflow", "source_report", *given)
    (run,) = stored(server, pool)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{run['id']}\n", "")
    assert run == {
        "id": run["id"],
        "adapter": "python",
        "prompt": "Try it",
        "params": {"path": "~/code", "report": {"a": [1, None]}},
        "status": "running",
        "total_stages": 5,
    }


def test_the_same_key_starts_a_workflow_once(server: MahavishnuServer, unique: Callable[[str], str]) -> None:
    pool, key = unique("pool"), unique("ticket")
    first, second = (server.manage("run_workflow", "demo_failure", "--pool", pool, "--key", key) for _ in range(2))
    (run,) = stored(server, pool)
    assert (first.stdout, second.stdout) == (f"{run['id']}\n", f"{run['id']}\n")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (
            ("demo_retyr",),
            1,
            f"CommandError: There is no workflow named demo_retyr; defined are: {NAMES}. They are found in the "
            "workflows.py of installed apps and of the packages in MAHAVISHNU_APPS.",
        ),
        (
            ("demo_retry", "--param", "failure=3"),
            1,
            "CommandError: demo_retry cannot be started so: got an unexpected keyword argument 'failure'; "
            "its parameters are: failures=2.",
        ),
        (
            ("demo_failure", "--param", "a=1"),
            1,
            "CommandError: demo_failure cannot be started so: got an unexpected keyword argument 'a'; "
            "its parameters are: none.",
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
def test_what_cannot_be_started_is_refused_in_words(
    server: MahavishnuServer, arguments: tuple[str, ...], code: int, words: str
) -> None:
    done = server.manage("run_workflow", *arguments)
    assert (done.returncode, done.stdout, done.stderr.splitlines()[-1]) == (code, "", words)


def test_a_pool_that_takes_no_work_refuses_a_run(server: MahavishnuServer, unique: Callable[[str], str]) -> None:
    pool = unique("pool")
    server.services.create_pool(pool_id=pool)
    server.services.drain_pool(pool_id=pool)
    done = server.manage("run_workflow", "demo_failure", "--pool", pool)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"CommandError: The pool {pool} is draining and accepts no new workflows.\n"


@contextmanager
def watching(server: MahavishnuServer, pool: str, **streams: Any) -> Iterator[subprocess.Popen[str]]:
    """`run_workflow demo_failure --watch` in a pool without workers."""
    command = [sys.executable, "manage.py", "run_workflow", "demo_failure", "--watch", "--pool", pool]
    process = subprocess.Popen(command, cwd=PROJECT_DIR, env=server.environment, text=True, **streams)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_ctrl_c_ends_the_watching_and_not_the_run(server: MahavishnuServer, unique: Callable[[str], str]) -> None:
    pool = unique("pool")
    with watching(server, pool, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        started, hinted = process.stdout.readline(), process.stderr.readline()
        (run,) = stored(server, pool)
        assert (started, hinted) == (f"{run['id']} is started\n", hint(pool))
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60) == ("", f"{run['id']} goes on; nobody watches it here any more.\n")
        assert process.returncode == 130
    assert stored(server, pool) == [run]
    assert run["status"] == "running"


@pytest.mark.django_db(transaction=True)
def test_ctrl_c_before_anything_is_shown_is_taken_as_calmly(unique: Callable[[str], str]) -> None:
    pool, errors = unique("pool"), InterruptedAtFirst()
    with pytest.raises(KeyboardInterrupt):
        call_command("run_workflow", "demo_failure", "--watch", "--pool", pool, stdout=io.StringIO(), stderr=errors)
    run = Workflow.objects.get(pool_id=pool)
    assert run.status == "running"
    assert errors.getvalue() == f"{run.pk} goes on; nobody watches it here any more.\n"


class InterruptedAtFirst(io.StringIO):
    """A stream at whose first line somebody presses Ctrl-C."""

    is_interrupted = False

    def write(self, text: str) -> int:
        if not self.is_interrupted:
            self.is_interrupted = True
            raise KeyboardInterrupt
        return super().write(text)


def test_a_terminal_shows_a_bar(server: MahavishnuServer, unique: Callable[[str], str]) -> None:
    pool = unique("pool")
    seen: list[bytes] = []
    with (
        terminal(columns=100) as (terminal_end, person_end),
        watching(server, pool, stdin=terminal_end, stdout=terminal_end, stderr=terminal_end) as process,
    ):
        os.close(terminal_end)

        def is_shown(text: str) -> bool:
            seen.append(os.read(person_end, 65536))
            return text in screen(seen)

        wait_until(lambda: is_shown("0 of 3 stages; running"), timeout_seconds=60, what="the bar")
        (run,) = stored(server, pool)
        services, workflow = server.services, {"workflow_id": run["id"]}
        services.start_stage(**workflow, stage_name="prepare")
        wait_until(lambda: is_shown("0 of 3 stages; prepare"), timeout_seconds=60, what="a stage that runs")
        assert "prepare runs on the same worker" in screen(seen)
        server.services_driver.execute(SAY, **workflow)
        wait_until(lambda: is_shown("prepare: I go on"), timeout_seconds=60, what="what a stage says")
        seen.clear()
        wait_until(lambda: is_shown("0 of 3 stages; prepare half way"), timeout_seconds=60, what="how far it is")
        services.complete_stage(**workflow, stage_name="prepare", result={"duration_ms": 1234})
        wait_until(lambda: is_shown("1 of 3 stages; running"), timeout_seconds=60, what="a stage that is completed")
        services.cancel_workflow(**workflow, reason="Seen enough")
        wait_until(lambda: is_shown("is cancelled"), timeout_seconds=60, what="the end")
        assert process.wait(timeout=60) == 4
    text = screen(seen)
    assert re.search(r" 33% \|█{10} {20}\| \d\d:\d\d 1 of 3 stages; running", text)
    assert "prepare is completed after 1.234 s" in text
    assert f"{run['id']} is cancelled: Seen enough" in text


@contextmanager
def terminal(*, columns: int) -> Iterator[tuple[int, int]]:
    """A terminal: its own end, which the program is given and the test closes, and the end of the person before it."""
    person_end, terminal_end = pty.openpty()
    fcntl.ioctl(terminal_end, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    try:
        yield terminal_end, person_end
    finally:
        os.close(person_end)


def screen(seen: list[bytes]) -> str:
    return b"".join(seen).decode("utf-8", "replace")
