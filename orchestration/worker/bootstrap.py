"""The worker process: what Celery's own program does not do is hung onto its signals here.

It makes the table of slots and starts the keeper, which speaks for its workers; see `orchestration.worker.supervisor`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import Any, NoReturn

from celery import signals

from orchestration.identifiers import is_identifier
from orchestration.processes import is_alive
from orchestration.worker import child
from orchestration.worker.slot_table import MAX_SLOTS, SlotTable

logger = logging.getLogger(__name__)

SUPERVISOR_RESTART_SECONDS = 1.0

_TABLE_PREFIX = "mahavishnu-slots-"

# A number is added to it, and the whole is an id.
_MAX_NAME_CHARACTERS = 100


class _WorkerProcess:
    """What one worker process has beside its pool of children."""

    def __init__(self, *, name: str, pool_id: str, size: int) -> None:
        process = uuid.uuid4().hex
        directory = Path(tempfile.gettempdir())
        _remove_tables_of_the_dead(directory)
        self.table = SlotTable.create(directory / f"{_TABLE_PREFIX}{os.getpid()}-{process}")
        self.table.size = size
        os.environ[child.TABLE_VARIABLE] = str(self.table.path)
        os.environ[child.PROCESS_VARIABLE] = process
        self._command = [
            sys.executable,
            "-m",
            "orchestration.worker.supervisor",
            str(os.getpid()),
            name,
            pool_id,
        ]
        threading.Thread(target=self._run_supervisor, name="keeper's keeper", daemon=True).start()

    def _run_supervisor(self) -> None:
        """Start the keeper, again whenever it has ended, until the process is stopping."""
        while True:
            code = wait_for(spawn(self._command))
            if self.table.stopping_since_ns:
                return
            logger.error("The keeper of the workers ended with %s; starting another", code)
            time.sleep(SUPERVISOR_RESTART_SECONDS)


def spawn(command: list[str]) -> int:
    """Start a program in a session of its own and return its process id: it outlives whatever ends this process.

    `subprocess` waits for a pipe to close, which every child that this process forks at that moment inherits and keeps
    open for as long as it lives: of 300 programs started beside such forks, 5 were waited for in vain. This needs none.
    """
    no_input = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
    return os.posix_spawn(command[0], command, os.environ, file_actions=no_input, setsid=True)


def wait_for(pid: int) -> int:
    """Wait until a child has ended and return its exit code; minus the number of the signal that ended it.

    Where the system forgets children as they end (SIGCHLD is ignored), it is 0, as `subprocess` has it.
    """
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:
        return 0


def _remove_tables_of_the_dead(directory: Path) -> None:
    """Remove what processes left that were killed together with their keepers; whoever still has it open, keeps it."""
    for path in directory.glob(f"{_TABLE_PREFIX}*"):
        pid = path.name.removeprefix(_TABLE_PREFIX).partition("-")[0]
        if pid.isdecimal() and not is_alive(int(pid)):
            with contextlib.suppress(OSError):
                path.unlink()


_node: _WorkerProcess | None = None


def install() -> None:
    """Listen to Celery's signals."""
    signals.celeryd_after_setup.connect(_begin, dispatch_uid="orchestration.worker.bootstrap.begin")
    signals.worker_shutting_down.connect(_stop, dispatch_uid="orchestration.worker.bootstrap.stop")
    signals.worker_process_init.connect(child.on_process_init, dispatch_uid="orchestration.worker.child.begin")
    signals.worker_process_shutdown.connect(child.on_process_shutdown, dispatch_uid="orchestration.worker.child.end")


def _begin(instance: Any, **_: Any) -> None:
    global _node
    queues = list(instance.app.amqp.queues.consume_from)
    if len(queues) != 1 or not is_identifier(queues[0]):
        _refuse(f"This worker is to serve the queues {queues}: expected one pool, as in -Q local.")
    if "prefork" not in instance.pool_cls.__module__:
        _refuse("This worker is not to fork: expected -P prefork, so that a stage that hangs can be ended.")
    size = max(instance.concurrency, instance.max_concurrency or 0)
    if size > MAX_SLOTS:
        _refuse(f"This worker is to run {size} stages side by side: expected at most {MAX_SLOTS}.")
    try:
        _node = _WorkerProcess(name=worker_name(instance.hostname, pool_id=queues[0]), pool_id=queues[0], size=size)
    except OSError as error:
        _refuse(f"This worker cannot make the table of its slots: {error}.")


def _stop(**_: Any) -> None:
    if _node is not None and not _node.table.stopping_since_ns:
        _node.table.stopping_since_ns = time.monotonic_ns()


def _refuse(reason: str) -> NoReturn:
    # Celery swallows what a receiver of its signals raises, but not this.
    print(reason, file=sys.stderr, flush=True)
    raise SystemExit(1)


def worker_name(hostname: str, *, pool_id: str) -> str:
    """Name the workers of a process after it: `celery@box` in the pool `local` has `local-box-1`, `local-box-2`, …"""
    name, _, host = hostname.partition("@")
    parts = (pool_id, host or name) if name == "celery" or not host else (pool_id, name, host)
    return re.sub(r"[^A-Za-z0-9._-]", "-", "-".join(parts))[:_MAX_NAME_CHARACTERS]
