"""Restarts of the replicas of a program, and what happens to one that does not end."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mahavishnu_site.serve.replica import (
    MAX_CRASHES,
    MAX_RESTART_DELAY_SECONDS,
    MIN_RESTART_DELAY_SECONDS,
    STEADY_SECONDS,
    Program,
    Replica,
)
from orchestration.processes import process_tree
from tests.harness.ports import free_port
from tests.harness.processes import kill_at_once
from tests.harness.programs import PROJECT_DIR
from tests.harness.server import clean_environment
from tests.harness.waiting import wait_until

LIMIT_SECONDS = 40


@contextmanager
def running(command: str, tmp_path: Path, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """Run two processes of a shell command behind a socket without clients, until the end of the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mahavishnu_site.serve.prefork", "sh", "-c", command],
        cwd=PROJECT_DIR,
        env={
            **clean_environment(),
            "DJANGO_SETTINGS_MODULE": "mahavishnu_site.settings",
            "MAHAVISHNU_VAR_DIR": str(tmp_path),
            "MAHAVISHNU_PORT": str(free_port()),
            "MAHAVISHNU_PROCESSES": "2",
            **variables,
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            # When it ends, the kernel sends its processes SIGTERM, which those of one test ignore.
            kill_at_once(process_tree(process.pid))
        process.communicate(timeout=LIMIT_SECONDS)


def restart_delays(*durations_seconds: float) -> list[float]:
    """Return the restart delays of a replica whose processes run for these durations, one after another."""
    replica, now, delays = Replica(Program(name="web", command="true")), 100.0, []
    for duration_seconds in durations_seconds:
        replica.started_at = now
        now += duration_seconds
        replica.schedule_restart(now=now)
        delays.append(replica.restart_at - now)
    return delays


def test_replica_restarts_at_once_after_a_steady_run() -> None:
    assert restart_delays(STEADY_SECONDS, STEADY_SECONDS) == [0, 0]


def test_replica_restart_delay_doubles_up_to_a_limit() -> None:
    delays = restart_delays(*[1] * 20)
    assert delays[:3] == [MIN_RESTART_DELAY_SECONDS, 2 * MIN_RESTART_DELAY_SECONDS, 4 * MIN_RESTART_DELAY_SECONDS]
    assert delays == sorted(delays)
    assert delays[-1] == MAX_RESTART_DELAY_SECONDS


def test_replica_restart_delay_resets_after_a_steady_run() -> None:
    assert restart_delays(1, 1, STEADY_SECONDS, 1) == [
        MIN_RESTART_DELAY_SECONDS,
        2 * MIN_RESTART_DELAY_SECONDS,
        0,
        MIN_RESTART_DELAY_SECONDS,
    ]


def test_prefork_exits_when_every_replica_keeps_crashing(tmp_path: Path) -> None:
    with running("exit 3", tmp_path) as run:
        _, log = run.communicate(timeout=LIMIT_SECONDS)
    restarts = re.findall(r"web\.(\d) \(pid \d+\) exited with code 3; restarting it in ([\d.]+) s", log)
    delays = [str(MIN_RESTART_DELAY_SECONDS * 2**times).removesuffix(".0") for times in range(MAX_CRASHES)]
    assert [delay for number, delay in restarts if number == "1"] == delays
    assert log.endswith("All 2 processes fail right after their start; stopping\n")


def test_prefork_keeps_restarting_while_one_replica_runs(tmp_path: Path) -> None:
    # The process that makes the folder keeps running.
    with running(f"mkdir {tmp_path}/first && exec sleep 60; exit 3", tmp_path) as run:
        log = tmp_path / "websocket.log"
        wait_until(
            lambda: log.exists() and log.read_text().count("exited with code 3") >= MAX_CRASHES,
            timeout_seconds=LIMIT_SECONDS,
        )
        run.terminate()
        _, output = run.communicate(timeout=LIMIT_SECONDS)
    assert (run.returncode, "fail right after their start" in output) == (0, False)


def test_prefork_kills_a_replica_that_ignores_sigterm(tmp_path: Path) -> None:
    ignores_sigterm = f"trap '' TERM; touch {tmp_path}/$$.ready; while :; do sleep 0.1; done"
    with running(ignores_sigterm, tmp_path, MAHAVISHNU_DRAIN_TIMEOUT_SECONDS="0.1") as run:
        wait_until(lambda: len(list(tmp_path.glob("*.ready"))) == 2, timeout_seconds=LIMIT_SECONDS)
        terminated_at = time.monotonic()
        run.terminate()
        _, output = run.communicate(timeout=LIMIT_SECONDS)
    assert run.returncode == 0
    assert time.monotonic() - terminated_at >= 2
    assert output.count("is still running after SIGTERM; sending SIGKILL") == 2
