"""`manage.py run_workflow --watch` on a terminal. Needs no worker."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.harness.server import MahavishnuServer
from tests.harness.waiting import wait_until
from tests.management.test_run_workflow import stored, watch_demo_failure
from tests.site.test_locales import C_LOCALE

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

CONTROL_CODES = re.compile(r"\x1b(?:\[(?:\?25[lh]|[\d;]*m|1A|2K))")
"""What rich writes to colour a text, and to draw the bar again."""

EVIL = "a\x1b]0;title\x07\x1b[2J\x9b2J\u202ereversed\rover"
ESCAPED = r"a\x1b]0;title\x07\x1b[2J\x9b2J\u202ereversed\rover"


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
    text = CONTROL_CODES.sub("", screen(output))
    assert re.search(r" 33% ━{29,30} \d:\d\d:\d\d 1 of 3 stages; running", text.replace("╺", "━"))
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
    text = CONTROL_CODES.sub("", text)
    assert set(re.findall(r"[\x00-\x1f\x7f-\x9f\u202e]", text)) <= {"\r", "\n"}
    lines = re.split(r"[\r\n]+", text)
    logged = [line for line in lines if line.startswith("prepare: ")]
    assert logged == [r"prepare: one\r", f"prepare: {ESCAPED}", f"prepare: {run['id']} completed"]
    assert rf"{run['id']} cancelled: {ESCAPED}\n{run['id']} completed" in lines


@pytest.mark.parametrize(
    ("variables", "shown", "codes"),
    [
        ({"NO_COLOR": "1"}, "  0% ", {"[2K", "[1A", "[?25l", "[?25h"}),
        ({"TERM": "dumb"}, "", set()),
        ({**C_LOCALE, "NO_COLOR": "1"}, "  0% ", {"[2K", "[1A", "[?25l", "[?25h"}),
    ],
    ids=["NO_COLOR", "dumb", "ASCII"],
)
def test_watch_obeys_the_variables_of_the_terminal(
    server: MahavishnuServer,
    unique: Callable[[str], str],
    variables: dict[str, str],
    shown: str,
    codes: set[str],
) -> None:
    pool = unique("pool")
    first_line = "(demo_failure) started"
    with watch_on_terminal(server, pool, columns=100, first=first_line, **variables) as (process, output, is_shown):
        if shown:
            wait_until(lambda: is_shown(shown), timeout_seconds=60, what="the bar")
        (run,) = stored(server, pool)
        server.services.cancel_workflow(workflow_id=run["id"], reason="Größe")
        wait_until(lambda: is_shown(f"{run['id']} cancelled"), timeout_seconds=60, what="the end")
        assert process.wait(timeout=60) == 4
    text = screen(output)
    assert {code[1:] for code in CONTROL_CODES.findall(text)} <= codes
    assert (r"Gr\xf6\xdfe" if "LC_ALL" in variables else "Größe") in text
    assert text.isascii() is ("LC_ALL" in variables)


@contextmanager
def watch_on_terminal(
    server: MahavishnuServer, pool: str, *, columns: int, first: str = "0 of 3 stages; running", **variables: str
) -> Iterator[tuple[subprocess.Popen[str], list[bytes], Callable[[str], bool]]]:
    """Watch a run on a terminal, from the text `first` on.

    Yields the process, its output so far, and a function that reads more and returns whether a text is on the screen.
    """
    output: list[bytes] = []
    with (
        terminal(columns=columns) as (end, reader_end),
        watch_demo_failure(server, pool, variables, **dict.fromkeys(("stdin", "stdout", "stderr"), end)) as process,
    ):
        os.close(end)

        def is_shown(text: str) -> bool:
            output.append(os.read(reader_end, 65536))
            return text in screen(output)

        wait_until(lambda: is_shown(first), timeout_seconds=60, what=first)
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
