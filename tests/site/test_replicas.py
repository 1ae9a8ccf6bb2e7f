"""Restarts of the replicas of a program, and what happens to one that does not end."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mahavishnu_site.serve.restart_policy import RestartHistory, RestartPolicy
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


POLICY = RestartPolicy()


class Runs:
    """Runs of one process, one after another, and what its history says."""

    def __init__(self) -> None:
        self.now = 100.0
        self.history = RestartHistory(POLICY)

    def run(self, *durations_seconds: float, by_itself: bool = False) -> list[float]:
        """Let a process run for each of these durations, and return the restart delays."""
        delays = []
        for seconds in durations_seconds:
            self.now += seconds
            delays.append(self.history.record_exit(ran_seconds=seconds, by_itself=by_itself, now=self.now))
            self.now += delays[-1]
        return delays

    def failure(self) -> str | None:
        return self.history.failure(now=self.now, running_seconds=None)


def test_process_restarts_at_once_after_a_steady_run() -> None:
    assert Runs().run(POLICY.steady_seconds, POLICY.steady_seconds) == [0, 0]


def test_restart_delay_doubles_up_to_a_limit() -> None:
    delays = Runs().run(*[1] * 50)
    assert delays[:3] == [POLICY.min_delay_seconds, 2 * POLICY.min_delay_seconds, 4 * POLICY.min_delay_seconds]
    assert delays == sorted(delays)
    assert delays[-1] == POLICY.max_delay_seconds


def test_restart_delay_resets_after_a_steady_run() -> None:
    delays = Runs().run(1, 1, POLICY.steady_seconds, 1)
    assert delays == [POLICY.min_delay_seconds, 2 * POLICY.min_delay_seconds, 0, POLICY.min_delay_seconds]


def test_process_has_failed_that_exits_by_itself_at_its_first_start() -> None:
    killed, steady, exited = Runs(), Runs(), Runs()
    killed.run(1, by_itself=False)
    killed.run(1, by_itself=True)
    steady.run(POLICY.steady_seconds, 1, by_itself=True)
    exited.run(1, by_itself=True)
    assert (killed.failure(), steady.failure(), exited.failure()) == (None, None, "at its first start")
    exited.run(1, by_itself=False)
    assert exited.failure() == "at its first start"
    assert exited.history.failure(now=exited.now, running_seconds=POLICY.steady_seconds) is None
    exited.run(POLICY.steady_seconds)
    assert exited.failure() is None


def test_process_has_failed_that_ends_five_times_within_a_minute() -> None:
    often, seldom = Runs(), Runs()
    often.run(*[12] * 4)
    assert often.failure() is None
    often.run(12)
    assert often.failure() == "for the 5th time within 60 s"
    assert often.history.failure(now=often.now + 1, running_seconds=1) == often.failure()
    assert often.history.failure(now=often.now + 10, running_seconds=POLICY.steady_seconds) is None
    seldom.run(*[16] * 50)
    assert seldom.failure() is None


def test_prefork_exits_when_every_replica_exits_at_its_first_start(tmp_path: Path) -> None:
    with running("exit 3", tmp_path) as run:
        _, log = run.communicate(timeout=LIMIT_SECONDS)
    assert run.returncode == 3
    assert re.search(r"web\.\d \(pid \d+\) exited with code 3 at its first start; stopping all other programs\n", log)


def test_prefork_keeps_restarting_while_one_replica_runs(tmp_path: Path) -> None:
    # The process that makes the folder keeps running.
    with running(f"mkdir {tmp_path}/first && exec sleep 60; exit 3", tmp_path) as run:
        log = tmp_path / "websocket.log"
        wait_until(
            lambda: log.exists() and log.read_text().count("exited with code 3; restarting it in") == 3,
            timeout_seconds=LIMIT_SECONDS,
        )
        run.terminate()
        _, output = run.communicate(timeout=LIMIT_SECONDS)
    assert (run.returncode, "stopping all other programs" in output) == (0, False)


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
