"""CPU time and memory of a process, from `/proc` (Linux)."""

from __future__ import annotations

from pathlib import Path

_KIB = 1024


def cpu_ns(pid: int) -> int:
    """Return the CPU time of all running threads of a process, in ns (`schedstat`, see the kernel's sched-stats)."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            total += int((task / "schedstat").read_text().split()[0])
        except FileNotFoundError:
            continue  # The thread has ended.
    return total


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process (`VmRSS`).

    Raises:
        ProcessLookupError: if the process has exited.
    """
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * _KIB
    raise ProcessLookupError(pid)
