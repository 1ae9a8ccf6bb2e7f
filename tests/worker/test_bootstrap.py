"""The programs that a worker process starts beside its children, and the ids of its workers."""

from __future__ import annotations

import subprocess
import sys

import pytest

from orchestration.worker.bootstrap import MAX_SUPERVISOR_RESTART_SECONDS, restart_seconds, worker_name
from tests.harness.programs import PROJECT_DIR

PROGRAMS = 400
MAX_CHILDREN = 2000
LONGEST_SECONDS = 60

# As in a worker: one thread starts programs and waits for them, while another forks children that live on.
START_BESIDE_FORKS = f"""
import os, threading, time
from orchestration.worker.bootstrap import spawn, wait_for

codes = []

def start_programs():
    for _ in range({PROGRAMS}):
        codes.append(wait_for(spawn(["/bin/sh", "-c", "exit 3"])))

def end(child):
    os.kill(child, 9)
    os.waitpid(child, 0)

starter = threading.Thread(target=start_programs, daemon=True)
starter.start()
children = []
deadline = time.monotonic() + {LONGEST_SECONDS}
try:
    while starter.is_alive() and time.monotonic() < deadline:
        if len(children) < {MAX_CHILDREN}:
            child = os.fork()
            if not child:
                time.sleep(600)
                os._exit(0)
            children.append(child)
        time.sleep(0.001)
    hung = starter.is_alive()
finally:
    for child in children:
        end(child)
print(len(codes), set(codes), hung, flush=True)
"""


def test_wait_for_returns_when_a_program_started_beside_forks_has_exited() -> None:
    done = subprocess.run(
        [sys.executable, "-c", START_BESIDE_FORKS], cwd=PROJECT_DIR, capture_output=True, text=True, timeout=100
    )
    assert (done.stdout, done.stderr) == (f"{PROGRAMS} {{3}} False\n", "")


SPAWN_PYTHON = """
import sys

import pytest
from orchestration.worker.bootstrap import spawn, wait_for
code = "import os, sys; sys.exit(7 if os.getsid(0) == os.getpid() and sys.stdin.read() == '' else 1)"
print(wait_for(spawn([sys.executable, "-c", code])))
print(wait_for(spawn([sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"])))
"""


def test_spawned_program_has_a_new_session_and_no_input_and_its_exit_code_is_returned() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SPAWN_PYTHON], cwd=PROJECT_DIR, capture_output=True, text=True, timeout=60, input="x"
    )
    assert (done.stdout, done.stderr) == ("7\n-9\n", "")


@pytest.mark.parametrize(
    ("hostname", "name"),
    [("celery@box", "local-box"), ("second@box.example", "local-second-box.example"), ("celery@böx", "local-b-x")],
)
def test_worker_name_consists_of_pool_and_host(hostname: str, name: str) -> None:
    assert worker_name(hostname, pool_id="local") == name


def test_restarts_of_a_supervisor_that_keeps_exiting_become_rarer_up_to_a_bound() -> None:
    pauses = [restart_seconds(exits) for exits in range(1, 9)]
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]
    assert restart_seconds(10_000) == MAX_SUPERVISOR_RESTART_SECONDS
