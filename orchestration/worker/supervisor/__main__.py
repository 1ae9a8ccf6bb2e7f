"""`python -m orchestration.worker.supervisor PARENT_PID NAME POOL`: speaks for the workers of one worker process.

It registers a worker for each slot, gives their signs of life, tells a stage that it is cancelled, ends the process of
one that does not listen or takes too long, and says what became of it. It is a process of its own because it must go
on when the worker process hangs, is killed, or waits for a lock of the interpreter that some stage holds; and because a
process that has threads in the database cannot safely fork.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path

from orchestration.worker.slot_table import SlotTable

logger = logging.getLogger("orchestration.worker.supervisor")


def main() -> None:
    import django

    parent_pid, name, pool_id = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    # It ends when its parent has, and not before: whatever it was told meanwhile.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    django.setup()

    from orchestration.worker import child
    from orchestration.worker.supervisor.supervisor import WorkerSupervisor

    table = SlotTable.open(Path(os.environ[child.TABLE_VARIABLE]))
    process = os.environ[child.PROCESS_VARIABLE]
    WorkerSupervisor(table, parent_pid=parent_pid, process=process, name=name, pool_id=pool_id).run()


if __name__ == "__main__":
    main()
