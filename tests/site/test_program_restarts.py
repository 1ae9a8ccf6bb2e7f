"""Programs that `ProcessManager` runs: which of them it restarts, and when it stops all of them."""

from __future__ import annotations

import re
import signal

import pytest

from tests.site.managed_programs import LIMIT_SECONDS, NEW_SESSION, STOPS, Manage, second_time


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV], ids=lambda number: number.name)
def test_manager_restarts_only_the_program_that_was_killed(manage: Manage, number: signal.Signals) -> None:
    run = manage({"one": STOPS, "two": second_time(f"kill -{number} $$")})
    run.wait_for("two | ready")
    assert re.search(rf"two \(pid \d+\) was killed by {number.name}; restarting it in 0.5 s", run.output())
    assert [run.output().count(f"{name} started") for name in ("one", "two")] == [1, 2]
    run.main.terminate()
    assert run.wait_ended() == 0


def test_manager_restarts_a_program_that_exits_after_a_steady_run(manage: Manage) -> None:
    run = manage({"one": {"command": "exit 3", "restart_policy": {"steady_seconds": 0, "max_exits": 3}}})
    assert run.wait_ended() == 3
    assert run.output().count("exited with code 3; restarting it in 0 s") == 2


def test_manager_stops_all_programs_when_one_keeps_dying(manage: Manage) -> None:
    run = manage({"one": STOPS, "two": {"command": "kill -KILL $$", "restart_policy": {"min_delay_seconds": 0.01}}})
    assert run.wait_ended() == 128 + signal.SIGKILL
    output = run.output()
    assert output.count("two started") == 5
    assert re.search(
        r"two \(pid \d+\) was killed by SIGKILL for the 5th time within 60 s; stopping all other programs", output
    )
    assert re.search(r"one \(pid \d+\) ", output), "it was stopped too"


def test_manager_stops_at_once_while_a_program_waits_for_its_restart(manage: Manage) -> None:
    policy = {"min_delay_seconds": 600, "max_delay_seconds": 600}
    run = manage({"one": {"command": "kill -KILL $$", "restart_policy": policy}})
    run.wait_for("restarting it in 600 s")
    run.main.terminate()
    assert run.wait_ended() == 0


def test_manager_restarts_a_program_after_what_it_has_started_has_ended(manage: Manage) -> None:
    dies = f'{NEW_SESSION} sh -c "$HELPER" & until [ -e $FOLDER/end ]; do sleep 0.02; done; kill -KILL $$'
    worker = {"command": second_time(dies), "restart_policy": {"min_delay_seconds": 0.01}}
    run = manage({"worker": worker})
    run.wait_for("helper is ready")
    (run.folder / "end").touch()
    run.wait_for("restarting it")
    (run.folder / "released").touch()
    run.wait_for("| ready")
    output = run.output()
    assert output.index("helper ends") < output.rindex("worker started")
    run.main.terminate()
    assert run.wait_ended() == 0


def test_manager_restarts_a_program_though_a_process_in_another_session_keeps_the_output(manage: Manage) -> None:
    dies = f'{NEW_SESSION} sh -c "$HELPER" & until [ -e $FOLDER/end ]; do sleep 0.02; done; kill -KILL $$'
    run = manage({"worker": second_time(dies)}, stop_timeout_seconds=0.5)
    run.wait_for("helper is ready")
    (run.folder / "end").touch()
    run.wait_for("| ready")
    assert "A process that worker started is still running; sending SIGKILL" in run.output()
    run.main.terminate()
    assert run.main.wait(timeout=LIMIT_SECONDS) == 0
