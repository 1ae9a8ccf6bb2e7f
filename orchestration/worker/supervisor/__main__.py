"""`python -m orchestration.worker.supervisor PARENT_PID PROCESS NAME POOL`: supervise the workers of a worker process.

The supervisor registers a worker for each slot and sends their heartbeats. It cancels stages, kills those that ignore
the cancellation or exceed their time limit, and records crashes.

It is a separate process for two reasons. It must continue when the worker process hangs, is killed, or waits for an
interpreter lock that a stage holds. Also, a process whose threads use a database cannot safely fork.
"""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Supervise the process that is named by the arguments until it ends."""
    # Ignore these signals: the supervisor must not end before its parent, because stages may still be running. This
    # comes before the imports, which take a moment.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)

    import django

    django.setup()

    # Models can be imported only after the setup.
    from orchestration.processes import close_memory
    from orchestration.worker.slot_table import TABLE_DESCRIPTOR, SlotTable
    from orchestration.worker.supervisor.supervisor import WorkerSupervisor

    close_memory()
    parent_pid, process, name, pool_id = sys.argv[1:]
    table = SlotTable.open(TABLE_DESCRIPTOR)
    WorkerSupervisor(table, parent_pid=int(parent_pid), process=process, name=name, pool_id=pool_id).run()


if __name__ == "__main__":
    main()
