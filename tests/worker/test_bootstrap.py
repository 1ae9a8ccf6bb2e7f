"""What a worker process starts beside its children."""

from __future__ import annotations

import subprocess
import sys

from tests.harness.services import PROJECT_DIR

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


def test_a_program_that_is_started_while_children_are_forked_is_waited_for_until_its_end_and_no_longer() -> None:
    done = subprocess.run(
        [sys.executable, "-c", START_BESIDE_FORKS], cwd=PROJECT_DIR, capture_output=True, text=True, timeout=100
    )
    assert (done.stdout, done.stderr) == (f"{PROGRAMS} {{3}} False\n", "")


SPAWN_PYTHON = """
import sys
from orchestration.worker.bootstrap import spawn, wait_for
code = "import os, sys; sys.exit(7 if os.getsid(0) == os.getpid() and sys.stdin.read() == '' else 1)"
print(wait_for(spawn([sys.executable, "-c", code])))
print(wait_for(spawn([sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"])))
"""


def test_a_program_has_a_session_of_its_own_and_no_input_and_its_end_is_told_as_a_code() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SPAWN_PYTHON], cwd=PROJECT_DIR, capture_output=True, text=True, timeout=60, input="x"
    )
    assert (done.stdout, done.stderr) == ("7\n-9\n", "")
