"""What a process has cost, by the operating system's own accounts (Linux)."""

from __future__ import annotations

from pathlib import Path

_KIB = 1024


def cpu_ns(pid: int) -> int:
    """Nanoseconds on a processor of all living threads of a process (`schedstat`, see the kernel's sched-stats)."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            total += int((task / "schedstat").read_text().split()[0])
        except FileNotFoundError:
            continue  # The thread ended meanwhile.
    return total


def resident_bytes(pid: int) -> int:
    """Memory of a process that is in RAM (`VmRSS`)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * _KIB
    raise ProcessLookupError(pid)
