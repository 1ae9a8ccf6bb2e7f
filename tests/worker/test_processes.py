"""Signals and memory of a process (`orchestration.processes`). Process trees are tested with the supervisor."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys

import psutil
import pytest

from orchestration.processes import _hides_processes, signal_pipe
from tests.harness.programs import PROJECT_DIR


def test_signal_pipe_restores_the_handlers_and_closes_its_ends_after_an_error() -> None:
    handler = signal.getsignal(signal.SIGTERM)
    open_before = psutil.Process().num_fds()
    with pytest.raises(ZeroDivisionError), signal_pipe([signal.SIGTERM]) as pipe:
        signal.raise_signal(signal.SIGTERM)
        assert os.read(pipe, 512) == bytes([signal.SIGTERM])
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGTERM) == handler
    assert psutil.Process().num_fds() == open_before
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    assert wakeup == -1


READ_VARIABLES = """
import os, subprocess, sys
from orchestration.processes import close_memory
if sys.argv[1] == "closed":
    close_memory()
if os.fork() == 0:
    print(subprocess.run(["cat", f"/proc/{os.getpid()}/environ"], capture_output=True).returncode)
else:
    os.wait()
    print(subprocess.run(["cat", f"/proc/{os.getpid()}/environ"], capture_output=True).returncode)
"""

# From linux/prctl.h and linux/capability.h.
PR_CAPBSET_DROP = 24
CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_PERFMON = 19, 21, 38


def drop_rights_to_trace() -> None:
    """Make root an ordinary user in this respect. With these rights it reads the memory of every process."""
    for capability in (CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_PERFMON):
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows the variables of a process")
@pytest.mark.parametrize(("state", "exit_codes"), [("open", ["0", "0"]), ("closed", ["1", "1"])])
def test_closed_process_shows_its_variables_to_no_program_that_it_starts(state: str, exit_codes: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", READ_VARIABLES, state],
        cwd=PROJECT_DIR,
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=drop_rights_to_trace,
    )
    assert done.stdout.split() == exit_codes


@pytest.mark.parametrize(
    ("options", "hides"),
    [("rw,nosuid", False), ("rw,hidepid=0", False), ("rw,hidepid=2", True), ("hidepid=invisible", True)],
)
def test_proc_hides_processes_if_it_is_mounted_with_hidepid(options: str, hides: bool) -> None:
    # A mount point may be any bytes: with a line break of Latin-1 (\x85), and not UTF-8.
    others = b"tmpfs /run tmpfs rw,hidepid=2 0 0\n/dev/sdb1 /mnt/\xe9\x85\x0c ext4 rw 0 0\n"
    assert _hides_processes(others + f"proc /proc proc {options} 0 0\n".encode()) is hides


def test_proc_that_is_not_mounted_hides_no_process() -> None:
    assert not _hides_processes(b"")
