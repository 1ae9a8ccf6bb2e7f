"""What becomes of processes that end without being asked to, or do not end when they are."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

from mahavishnu_site.serve.replicas import (
    MAX_RESTART_DELAY_SECONDS,
    MAX_SHORT_LIVES,
    MIN_RESTART_DELAY_SECONDS,
    STEADY_SECONDS,
    Replica,
)
from tests.harness.ports import free_port
from tests.harness.server import clean_environment
from tests.harness.services import PROJECT_DIR
from tests.harness.waiting import wait_until

LIMIT_SECONDS = 40


def start(command: str, tmp_path: Path, **variables: str) -> subprocess.Popen[str]:
    """Run two processes of a shell command behind a socket that nobody connects to."""
    return subprocess.Popen(
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


def delays_of_lives(*lives_seconds: float) -> list[float]:
    """How long it is waited after each of these lives of one process."""
    sibling, now, delays = Replica(1), 100.0, []
    for life_seconds in lives_seconds:
        sibling.at = now
        now += life_seconds
        sibling.ended(now=now)
        delays.append(sibling.at - now)
    return delays


def test_a_process_that_had_started_well_is_replaced_at_once() -> None:
    assert delays_of_lives(STEADY_SECONDS, STEADY_SECONDS) == [0, 0]


def test_one_that_had_not_waits_each_time_twice_as_long_up_to_a_bound() -> None:
    delays = delays_of_lives(*[1] * 20)
    assert delays[:3] == [MIN_RESTART_DELAY_SECONDS, 2 * MIN_RESTART_DELAY_SECONDS, 4 * MIN_RESTART_DELAY_SECONDS]
    assert delays == sorted(delays)
    assert delays[-1] == MAX_RESTART_DELAY_SECONDS


def test_a_good_start_makes_up_for_the_bad_ones_before_it() -> None:
    assert delays_of_lives(1, 1, STEADY_SECONDS, 1) == [
        MIN_RESTART_DELAY_SECONDS,
        2 * MIN_RESTART_DELAY_SECONDS,
        0,
        MIN_RESTART_DELAY_SECONDS,
    ]


def test_when_none_can_be_started_it_says_so_and_ends(tmp_path: Path) -> None:
    _, said = start("exit 3", tmp_path).communicate(timeout=LIMIT_SECONDS)
    ends = re.findall(r"Process (\d) \(pid \d+\) ended with exit code 3: another one starts in ([\d.]+) s", said)
    waits = [str(MIN_RESTART_DELAY_SECONDS * 2**times).removesuffix(".0") for times in range(MAX_SHORT_LIVES)]
    assert [wait for number, wait in ends if number == "1"] == waits
    assert said.endswith("None of the 2 processes can be kept running: giving up\n")


def test_while_one_of_them_runs_the_others_are_tried_again(tmp_path: Path) -> None:
    # The first to make the folder goes on running.
    run = start(f"mkdir {tmp_path}/first && exec sleep 60; exit 3", tmp_path)
    log = tmp_path / "websocket.log"
    wait_until(
        lambda: log.exists() and log.read_text().count("ended with exit code 3") >= MAX_SHORT_LIVES,
        timeout_seconds=LIMIT_SECONDS,
    )
    run.terminate()
    _, said = run.communicate(timeout=LIMIT_SECONDS)
    assert (run.returncode, "giving up" in said) == (0, False)


def test_one_that_does_not_end_is_killed_in_the_end(tmp_path: Path) -> None:
    run = start(
        f"trap '' TERM; touch {tmp_path}/$$.ready; while :; do sleep 0.1; done",
        tmp_path,
        MAHAVISHNU_DRAIN_TIMEOUT_SECONDS="0.1",
    )
    wait_until(lambda: len(list(tmp_path.glob("*.ready"))) == 2, timeout_seconds=LIMIT_SECONDS)
    asked_at = time.monotonic()
    run.terminate()
    _, said = run.communicate(timeout=LIMIT_SECONDS)
    assert run.returncode == 0
    assert time.monotonic() - asked_at >= 2
    assert said.count("did not end in time and is killed") == 2
