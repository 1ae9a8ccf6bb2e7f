"""Programs that `ProcessManager` runs: how they start, stop and fail together."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import psutil
import pytest

from tests.harness.programs import PROJECT_DIR
from tests.harness.serve import processes_where, wait_none_left
from tests.harness.server import clean_environment
from tests.harness.waiting import wait_until

LIMIT_SECONDS = 40
STOP_TIMEOUT_SECONDS = 30.0

MAIN = """
import json, logging, sys
from mahavishnu_site.serve.prefixed_output import PrefixedOutput
from mahavishnu_site.serve.process_manager import ProcessManager
from mahavishnu_site.serve.replica import Program

programs, options = map(json.loads, sys.argv[1:])
logging.basicConfig(format="%(message)s", level=logging.INFO)
output = PrefixedOutput(1, names=programs)
print("manager starts", flush=True)
listed = [Program(name=name, **arguments) for name, arguments in programs.items()]
sys.exit(ProcessManager(listed, output=output, **options).run())
"""

# Ends soon after SIGTERM; a second SIGTERM meanwhile prints a second line.
STOPS = "trap 'echo terminated; end=1' TERM; echo ready; while [ ! $end ]; do sleep 0.02; done; sleep 0.1"

# Ends a moment after it is released: a manager that does not wait for it then ends the others first.
HELPER = (
    "trap '' TERM; echo helper is ready; until [ -e $FOLDER/released ]; do sleep 0.02; done; "
    "sleep 0.2; echo helper ends"
)
NEW_SESSION = f"{sys.executable} -S -c 'import os, sys; os.setsid(); os.execvp(sys.argv[1], sys.argv[1:])'"


class Run:
    """A manager with programs, in a new process group and without a terminal.

    Args:
        programs: The command of each program, or its arguments of `Program`. Its shell has the variables FOLDER and
            HELPER.
        folder: Identifies the processes of this run.
        stdout: Gets the output of the programs; by default the file that gets the log.
        options: Arguments of `ProcessManager`.
    """

    def __init__(
        self, programs: dict[str, str | dict[str, Any]], *, folder: Path, stdout: int | None = None, **options: Any
    ) -> None:
        self.folder = folder
        self._output = folder / "output"
        arguments = {
            name: {"command": program} if isinstance(program, str) else program for name, program in programs.items()
        }
        options = {"stop_timeout_seconds": STOP_TIMEOUT_SECONDS, **options}
        with self._output.open("wb") as output:
            self.main = subprocess.Popen(
                [sys.executable, "-c", MAIN, json.dumps(arguments), json.dumps(options)],
                cwd=PROJECT_DIR,
                env={**clean_environment(), "FOLDER": str(folder), "HELPER": HELPER},
                stdin=subprocess.DEVNULL,
                stdout=output if stdout is None else stdout,
                stderr=output,
                start_new_session=True,
            )

    def signal_group(self, number: signal.Signals) -> None:
        os.killpg(self.main.pid, number)

    def output(self) -> str:
        return self._output.read_text(encoding="utf-8")

    def wait_for(self, text: str, *, times: int = 1) -> None:
        wait_until(lambda: self.output().count(text) >= times, timeout_seconds=LIMIT_SECONDS, what=self.output)

    def processes(self) -> list[psutil.Process]:
        return processes_where(lambda process: process.environ().get("FOLDER") == str(self.folder))

    def wait_ended(self) -> int:
        """Wait until no process is left, and return the exit code of the manager."""
        code = self.main.wait(timeout=LIMIT_SECONDS)
        wait_none_left(self.processes, output=self.output)
        return code

    def close(self) -> None:
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.main.wait()


class Manage(Protocol):
    """The fixture `manage`."""

    def __call__(self, programs: dict[str, str | dict[str, Any]], **options: Any) -> Run: ...


@pytest.fixture
def manage(tmp_path: Path) -> Iterator[Manage]:
    started: list[Run] = []

    def start(programs: dict[str, str | dict[str, Any]], **options: Any) -> Run:
        started.append(Run(programs, folder=tmp_path, **options))
        return started[-1]

    yield start
    for run in started:
        run.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_manager_terminates_each_program_once_and_exits_with_0_after_a_stop_signal(
    manage: Manage, number: signal.Signals
) -> None:
    run = manage({"one": STOPS, "two": STOPS})
    run.wait_for("| ready", times=2)
    # As Ctrl-C does. The programs are in other groups, so they get only the SIGTERM of the manager.
    run.signal_group(number)
    assert run.wait_ended() == 0
    assert sorted(re.findall(r"(\w+) +\| terminated", run.output())) == ["one", "two"]


def test_manager_ignores_a_second_stop_signal(manage: Manage) -> None:
    run = manage({"one": STOPS.replace("sleep 0.1", "until [ -e $FOLDER/end ]; do sleep 0.02; done; echo ends")})
    run.wait_for("| ready")
    for _ in range(3):
        run.main.terminate()
        run.wait_for("| terminated")
    (run.folder / "end").touch()
    assert run.wait_ended() == 0
    assert run.output().count("| terminated") == 1


def test_manager_repeats_sigterm_if_it_should(manage: Manage) -> None:
    run = manage(
        {"one": "trap 'echo terminated' TERM; echo ready; until [ -e $FOLDER/end ]; do sleep 0.02; done"},
        repeats_sigterm=True,
    )
    run.wait_for("| ready")
    for times in (1, 2, 3):
        run.main.terminate()
        run.wait_for("| terminated", times=times)
    (run.folder / "end").touch()
    assert run.wait_ended() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
@pytest.mark.parametrize("moment", ["manager starts", "one started", "three started", "| ready"])
def test_manager_leaves_no_process_when_stopped_during_its_start(
    manage: Manage, number: signal.Signals, moment: str
) -> None:
    run = manage({"one": STOPS, "two": STOPS, "three": STOPS})
    run.wait_for(moment)
    run.signal_group(number)
    run.wait_ended()


@pytest.mark.parametrize(
    ("end", "exit_code"), [("exit 3", 3), ("exit 0", 1), ("kill -KILL $$", 128 + 9), ("kill -SEGV $$", 128 + 11)]
)
def test_manager_stops_all_programs_when_one_ends(manage: Manage, end: str, exit_code: int) -> None:
    run = manage({"one": STOPS, "two": f"until [ -e $FOLDER/end ]; do sleep 0.02; done; {end}"})
    run.wait_for("| ready")
    (run.folder / "end").touch()
    assert run.wait_ended() == exit_code
    assert "one | terminated" in run.output()


def test_manager_stops_the_programs_that_run_when_one_cannot_start(manage: Manage) -> None:
    run = manage({"one": "exec sleep 600", "two": {"command": ["/no/such/program"]}})
    assert run.wait_ended() == 1
    assert re.search(r"one \(pid \d+\) was killed by SIGTERM", run.output())
    assert "FileNotFoundError" in run.output()


def test_manager_kills_a_program_that_ignores_sigterm_and_what_it_has_started(manage: Manage) -> None:
    run = manage({"two": "trap '' TERM; sleep 600 & echo ready; wait"}, stop_timeout_seconds=0.5)
    run.wait_for("| ready")
    run.main.terminate()
    assert run.wait_ended() == 0
    assert "two is still running after SIGTERM; sending SIGKILL" in run.output()


def test_programs_are_terminated_when_the_manager_is_killed(manage: Manage) -> None:
    run = manage({"one": STOPS.replace("echo terminated", "touch $FOLDER/terminated"), "two": "exec sleep 600"})
    run.wait_for("| ready")
    run.main.kill()
    assert run.wait_ended() == -signal.SIGKILL
    assert (run.folder / "terminated").exists()


def test_manager_keeps_running_when_its_output_is_closed(manage: Manage) -> None:
    # As after `make serve | head -1`: the pipe is closed after the first line.
    reader, writer = os.pipe()
    run = manage({"one": "while echo line; do echo >> $FOLDER/lines; sleep 0.02; done"}, stdout=writer)
    os.close(writer)
    assert os.read(reader, 100)
    os.close(reader)
    lines = run.folder / "lines"
    wait_until(lambda: lines.exists(), timeout_seconds=LIMIT_SECONDS)
    count = lines.stat().st_size
    wait_until(lambda: lines.stat().st_size > count + 3, timeout_seconds=LIMIT_SECONDS, what=run.output)
    run.main.terminate()
    assert run.wait_ended() == 0


@pytest.mark.parametrize("end", ["exit 3", "kill -KILL $$"])
def test_program_that_stops_last_outlives_what_the_others_have_started(manage: Manage, end: str) -> None:
    starts_helper = f'{NEW_SESSION} sh -c "$HELPER" & until [ -e $FOLDER/end ]; do sleep 0.02; done; {end}'
    run = manage({"broker": {"command": STOPS, "stops_last": True}, "worker": starts_helper})
    run.wait_for("broker | ready")
    run.wait_for("worker | helper is ready")
    (run.folder / "end").touch()
    run.wait_for("worker (pid")
    run.wait_for("; stopping all other programs")
    (run.folder / "released").touch()
    run.wait_ended()
    output = run.output()
    assert output.index("worker | helper ends") < output.index("broker | terminated")


def test_manager_kills_what_a_program_has_left_in_its_group(manage: Manage) -> None:
    leaves_helper = 'sh -c "$HELPER" & trap "exit 0" TERM; while :; do sleep 0.02; done'
    run = manage({"worker": leaves_helper}, stop_timeout_seconds=0.5)
    run.wait_for("helper is ready")
    run.main.terminate()
    assert run.wait_ended() == 0
    assert "A process that worker started is still running; sending SIGKILL" in run.output()


def test_manager_ends_after_its_timeout_though_a_process_in_another_session_keeps_the_output(manage: Manage) -> None:
    leaves_helper = f'{NEW_SESSION} sh -c "$HELPER" & trap "exit 0" TERM; while :; do sleep 0.02; done'
    run = manage({"worker": leaves_helper}, stop_timeout_seconds=0.5)
    run.wait_for("helper is ready")
    run.main.terminate()
    assert run.main.wait(timeout=LIMIT_SECONDS) == 0
    assert run.processes(), "the helper still runs"
