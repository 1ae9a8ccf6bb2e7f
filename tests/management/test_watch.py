"""`manage.py watch`: events as JSON lines in a pipe, and as rows on a terminal."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.harness.client import connect
from tests.harness.commands import command
from tests.harness.fixtures import StartServer
from tests.harness.programs import PROJECT_DIR
from tests.harness.server import MahavishnuServer
from tests.harness.waiting import wait_until
from tests.management.test_watch_on_terminal import CONTROL_CODES, screen, terminal
from tests.site.test_locales import C_LOCALE

PRUNE = """
from realtime.models import Event, EventRoom, Log
Log.objects.update(trimmed_seq=through)
EventRoom.objects.filter(event__lte=through).delete()
Event.objects.filter(seq__lte=through).delete()
"""

AGE = """
from datetime import timedelta
from django.db.models import F
from realtime.models import Event
Event.objects.filter(seq__lte=through).update(timestamp=F("timestamp") - timedelta(hours=1))
"""

EVIL = "a\x1b]0;title\x07\x9b2J\u202ereversed\U000e0041\rover"


@pytest.fixture
def quiet(start_server: StartServer) -> MahavishnuServer:
    """Start a server without events."""
    return start_server()


@contextmanager
def watching(
    server: MahavishnuServer, *arguments: str, variables: dict[str, str] | None = None, **streams: Any
) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "manage.py", "watch", *arguments],
        cwd=PROJECT_DIR,
        env=server.environment | (variables or {}),
        text=True,
        **({"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams),
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def line_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    line: dict[str, Any] = json.loads(process.stdout.readline())
    return line


def start_run(server: MahavishnuServer, id: str, **arguments: Any) -> None:
    values = {"adapter": "python", "prompt": "", "stages": ["only"]} | arguments
    server.services.create_workflow(workflow_id=id, **values)
    server.services.start_workflow(workflow_id=id)


async def test_lines_are_the_messages_of_a_subscriber(quiet: MahavishnuServer) -> None:
    async with connect(quiet) as client:
        for channel in ("global", "summary", "workflow:wf_1"):
            await client.subscribe(channel)
        start_run(quiet, "wf_1", prompt=f"naïve {EVIL} €")
        done = command(quiet, "watch", "global", "summary", "workflow:wf_1", "--since", "0", "--limit", "6")
        messages = [await client.next() for _ in range(6)]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    by_place = lambda each: (each["seq"], each["room"])  # noqa: E731
    assert sorted(lines, key=by_place) == sorted(messages, key=by_place)
    assert [line["seq"] for line in lines] == [1, 1, 1, 2, 2, 2]
    assert (done.returncode, done.stderr) == (0, "")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\U000e0041]", done.stdout)


def test_lines_are_ascii_in_a_locale_without_utf8(quiet: MahavishnuServer) -> None:
    start_run(quiet, "wf_1", prompt="naïve € 😀")
    with watching(quiet, "--since", "0", "--limit", "1", variables=C_LOCALE) as process:
        output, errors = process.communicate(timeout=60)
    assert output.isascii()
    assert (json.loads(output)["data"]["prompt"], errors) == ("naïve € 😀", "")


def test_watch_continues_over_a_restart_of_the_server_without_a_loss(quiet: MahavishnuServer) -> None:
    with watching(quiet, "--since", "0") as process:
        start_run(quiet, "wf_1")
        assert [line_of(process)["event"] for _ in range(2)] == ["workflow.created", "workflow.started"]
        quiet.kill()
        quiet.services.cancel_workflow(workflow_id="wf_1", reason="While no server runs")
        assert (seen := line_of(process))["event"] == "workflow.cancelled"
        assert seen["data"]["reason"] == "While no server runs"
        quiet.start()
        start_run(quiet, "wf_2")
        assert [line_of(process)["seq"] for _ in range(2)] == [4, 5]


def test_ctrl_c_prints_the_position_to_continue_from(quiet: MahavishnuServer) -> None:
    with watching(quiet, "--since", "0") as process:
        start_run(quiet, "wf_1")
        assert [line_of(process)["seq"] for _ in range(2)] == [1, 2]
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60) == ("", "Stopped. Continue with --since 2.\n")
        assert process.returncode == 130
    quiet.services.cancel_workflow(workflow_id="wf_1")
    done = command(quiet, "watch", "--since", "2", "--limit", "1")
    assert json.loads(done.stdout)["event"] == "workflow.cancelled"


def test_closed_pipe_ends_the_command_without_a_traceback(quiet: MahavishnuServer) -> None:
    with watching(quiet, "--since", "0") as process:
        start_run(quiet, "wf_1")
        line_of(process)
        assert process.stdout is not None
        process.stdout.close()
        quiet.services.cancel_workflow(workflow_id="wf_1")
        assert process.stderr is not None
        assert (process.wait(timeout=60), process.stderr.read()) == (0, "")


def test_names_filter_the_events_and_unknown_ones_are_suggested(quiet: MahavishnuServer) -> None:
    start_run(quiet, "wf_1")
    quiet.services.fail_workflow(workflow_id="wf_1", error="No disk")
    names = "workflow.failed,workflow.stage_faild,deploy.done"
    done = command(quiet, "watch", "--since", "0", "--names", names, "--limit", "1")
    assert (json.loads(done.stdout)["event"], done.returncode) == ("workflow.failed", 0)
    assert done.stderr == (
        "No event of this server has the name deploy.done.\n"
        "No event of this server has the name workflow.stage_faild. Did you mean workflow.stage_failed?\n"
    )


def test_since_takes_a_duration(quiet: MahavishnuServer) -> None:
    for number in range(1, 5):
        start_run(quiet, f"wf_{number}")
    quiet.services_driver.execute(AGE, through=5)
    done = command(quiet, "watch", "--since", "10m", "--limit", "3")
    assert [json.loads(line)["seq"] for line in done.stdout.splitlines()] == [6, 7, 8]


def test_pruned_events_are_reported(quiet: MahavishnuServer) -> None:
    start_run(quiet, "wf_1")
    quiet.services.cancel_workflow(workflow_id="wf_1")
    quiet.services_driver.execute(PRUNE, through=2)
    done = command(quiet, "watch", "--since", "1", "--limit", "1")
    assert json.loads(done.stdout)["seq"] == 3
    assert done.stderr == "Events of global after seq 1 are pruned up to seq 2: they are missing.\n"


def test_new_epoch_is_reported_and_followed(quiet: MahavishnuServer) -> None:
    with watching(quiet, "--since", "0") as process:
        start_run(quiet, "wf_1")
        assert [line_of(process)["seq"] for _ in range(2)] == [1, 2]
        assert command(quiet, "renew_epoch").returncode == 0
        quiet.services.cancel_workflow(workflow_id="wf_1")
        assert line_of(process)["event"] == "workflow.cancelled"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert errors.startswith("The log was replaced after seq 2; continuing with the new log.\nStopped. ")


@pytest.mark.parametrize(
    ("end", "arguments", "code"),
    [
        ("complete_workflow", {}, 0),
        ("fail_workflow", {"error": "No disk"}, 3),
        ("cancel_workflow", {}, 4),
        ("time_out_workflow", {}, 5),
    ],
)
def test_watch_of_runs_ends_with_the_first_that_did_not_complete(
    quiet: MahavishnuServer, end: str, arguments: dict[str, Any], code: int
) -> None:
    with watching(quiet, "workflow:wf_1", "workflow:wf_2", "--since", "0") as process:
        start_run(quiet, "wf_1")
        start_run(quiet, "wf_2")
        quiet.services.complete_workflow(workflow_id="wf_1")
        getattr(quiet.services, end)(workflow_id="wf_2", **arguments)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == code
    assert len(output.splitlines()) == 6


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (("--since", "99999"), 1, "CommandError: --since 99999: expected at most 0, the position of the log."),
        (("--since", "soon"), 2, "'soon': expected a position of the log, such as 42, or a duration, such as 45s, "),
        (("workflows",), 2, "argument CHANNEL: Invalid channel name 'workflows': expected 'global', 'summary', or "),
        (("--names", ","), 2, "argument --names: ',': expected names with commas between them, such as "),
        (tuple(f"pool:{number}" for number in range(21)), 1, "CommandError: 21 channels: expected at most 20."),
    ],
)
def test_invalid_arguments_are_rejected(
    quiet: MahavishnuServer, arguments: tuple[str, ...], code: int, error: str
) -> None:
    done = command(quiet, "watch", *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert error in done.stderr.splitlines()[-1]


def test_run_that_does_not_exist_is_reported(quiet: MahavishnuServer) -> None:
    start_run(quiet, "wf_0123456789")
    with watching(quiet, "workflow:wf_0123456798", "--limit", "1") as process:
        assert process.stderr is not None
        assert process.stderr.readline() == (
            "Workflow wf_0123456798 not found; waiting for it. Did you mean wf_0123456789?\n"
        )
        start_run(quiet, "wf_0123456798")
        assert line_of(process)["event"] == "workflow.created"


@pytest.mark.parametrize("encoding", ["UTF-8", "ASCII"])
def test_terminal_has_a_row_for_each_event(quiet: MahavishnuServer, encoding: str) -> None:
    start_run(quiet, "wf_1", prompt=EVIL)
    quiet.services.fail_workflow(workflow_id="wf_1", error=f"No {EVIL} disk")
    output: list[bytes] = []
    with terminal(columns=130) as (end, reader):
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), end)
        variables = {"TERM": "xterm-256color", **(C_LOCALE if encoding == "ASCII" else {})}
        with watching(quiet, "--since", "0", variables=variables, **streams) as process:
            os.close(end)

            def is_shown(text: str) -> bool:
                output.append(os.read(reader, 65536))
                return text in screen(output)

            wait_until(lambda: is_shown("over disk"), timeout_seconds=60, what="the last row")
            process.send_signal(signal.SIGINT)
            wait_until(lambda: is_shown("--since 3."), timeout_seconds=60, what="the end")
            assert process.wait(timeout=60) == 130
    sign = "✕" if encoding == "UTF-8" else "x"
    assert f"\x1b[1;31m{sign} workflow failed" in screen(output)
    lines = CONTROL_CODES.sub("", screen(output)).splitlines()
    assert lines[0] == f"Watching global - {quiet.http_url}/events - Ctrl-C stops"
    rows = [re.sub(r"^\d\d:\d\d:\d\d\.\d ", "", line.rstrip()) for line in lines[1:]]
    signs = ("·", "◐") if encoding == "UTF-8" else (".", ">")
    assert rows[0].startswith(f"{signs[0]} workflow created   wf_1 ")
    assert rows[1].startswith(f"{signs[1]} workflow started   wf_1 ")
    evil = r"a\x1b]0;title\x07\x9b2J\u202ereversed\U000e0041\rover"
    assert rows[2] == rf"{sign} workflow failed    wf_1 No {evil} disk"
    assert encoding == "UTF-8" or screen(output).isascii()


def test_rows_are_cut_at_the_width_of_the_terminal_and_ids_shortened(
    quiet: MahavishnuServer, unique: Callable[[str], str]
) -> None:
    id = "wf_" + "0123456789abcdef" * 2
    start_run(quiet, id, prompt="word " * 50)
    output: list[bytes] = []
    with terminal(columns=60) as (end, reader):
        streams: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), end)
        with watching(quiet, "--since", "0", "--limit", "1", **streams) as process:
            os.close(end)
            assert process.wait(timeout=60) == 0
            output.append(os.read(reader, 65536))
    row = CONTROL_CODES.sub("", screen(output)).splitlines()[-1]
    assert len(row) == 60
    assert " wf_012345 " in row
