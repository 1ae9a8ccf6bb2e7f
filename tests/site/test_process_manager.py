"""Programs that `ProcessManager` runs: how they start, stop and fail together."""

from __future__ import annotations

import os
import re
import signal

import pytest

from tests.harness.waiting import wait_until
from tests.site.managed_programs import LIMIT_SECONDS, NEW_SESSION, STOPS, Manage


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


@pytest.mark.parametrize(("end", "exit_code"), [("exit 3", 3), ("exit 0", 1)])
def test_manager_stops_all_programs_when_one_exits_at_its_first_start(manage: Manage, end: str, exit_code: int) -> None:
    run = manage({"one": STOPS, "two": f"until [ -e $FOLDER/end ]; do sleep 0.02; done; {end}"})
    run.wait_for("| ready")
    (run.folder / "end").touch()
    assert run.wait_ended() == exit_code
    assert "one | terminated" in run.output()
    assert re.search(rf"two \(pid \d+\) exited with code {end[-1]} at its first start; stopping all", run.output())


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
    worker = {"command": starts_helper, "restart_policy": {"max_exits": 1}}
    run = manage({"broker": {"command": STOPS, "stops_last": True}, "worker": worker})
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
