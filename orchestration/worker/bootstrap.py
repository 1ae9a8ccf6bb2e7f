"""Add a slot table and a supervisor to Celery's worker process, through Celery's signals.

The supervisor registers the workers of the process; see `orchestration.worker.supervisor`.
"""

from __future__ import annotations

import gc
import logging
import os
import re
import sys
import threading
import time
import uuid
from typing import Any, NoReturn

from celery import signals

from orchestration.identifiers import is_identifier
from orchestration.processes import close_memory
from orchestration.worker import child
from orchestration.worker.slot_table import MAX_SLOTS, TABLE_DESCRIPTOR, SlotTable
from orchestration.worker.stage_processes import StageProcesses

logger = logging.getLogger(__name__)

SUPERVISOR_RESTART_SECONDS = 1.0
"""The pause before a supervisor that has exited is restarted. It doubles while supervisors keep exiting."""

MAX_SUPERVISOR_RESTART_SECONDS = 30.0
"""The longest pause before a restart. A supervisor that ran longer than this was healthy: its pause is the first."""

# A worker's id is this name and a number. It must not exceed the maximum length of an id.
_MAX_NAME_CHARACTERS = 100


class _WorkerProcess:
    """The slot table and the supervisor of one worker process."""

    def __init__(self, *, name: str, pool_id: str, size: int) -> None:
        process = uuid.uuid4().hex
        self.table = SlotTable.create()
        self.table.size = size
        child.inherit(self.table, process=process)
        self._command = [
            sys.executable,
            "-m",
            "orchestration.worker.supervisor",
            str(os.getpid()),
            process,
            name,
            pool_id,
        ]
        threading.Thread(target=self._run_supervisor, name="worker-supervisor", daemon=True).start()

    def _run_supervisor(self) -> None:
        """Start the supervisor, and restart it whenever it exits, until a shutdown is requested."""
        exits = 0
        while True:
            started = time.monotonic()
            code = wait_for(spawn(self._command, table=self.table))
            if self.table.stopping_since_ns:
                return
            exits = 1 if time.monotonic() - started > MAX_SUPERVISOR_RESTART_SECONDS else exits + 1
            pause_seconds = restart_seconds(exits)
            logger.error("Worker supervisor exited with code %s; restarting it in %g s", code, pause_seconds)
            time.sleep(pause_seconds)


def restart_seconds(exits: int) -> float:
    """Return the pause before a supervisor is restarted that has exited this many times, each time early."""
    return min(SUPERVISOR_RESTART_SECONDS * 2.0 ** min(exits - 1, 16), MAX_SUPERVISOR_RESTART_SECONDS)


def spawn(command: list[str], *, table: SlotTable | None = None) -> int:
    """Start a program in a new session, without input, and return its process id. It survives this process.

    It has the table, if any, as its file descriptor `TABLE_DESCRIPTOR`.

    `subprocess` is unsafe here: it waits for a pipe to close, and a child that this process forks at that moment
    inherits the pipe and keeps it open. Of 300 programs started during such forks, it waited forever for 5.
    """
    files: list[Any] = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
    if table is not None:
        files.append((os.POSIX_SPAWN_DUP2, table.descriptor, TABLE_DESCRIPTOR))
    return os.posix_spawn(command[0], command, os.environ, file_actions=files, setsid=True)


def wait_for(pid: int) -> int:
    """Wait until a child has exited. Return its exit code, or minus the number of the signal that killed it.

    Returns 0 if the system reaps children itself (SIGCHLD is ignored), as `subprocess` does.
    """
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:
        return 0


_worker_process: _WorkerProcess | None = None


def is_draining() -> bool:
    """Return whether this worker process drains."""
    return _worker_process is not None and _worker_process.table.draining


def install() -> None:
    """Connect to Celery's signals."""
    signals.celeryd_after_setup.connect(_on_setup, dispatch_uid="orchestration.worker.bootstrap.setup")
    signals.worker_shutting_down.connect(begin_shutdown, dispatch_uid="orchestration.worker.bootstrap.shutdown")
    signals.worker_shutdown.connect(_on_stopped, dispatch_uid="orchestration.worker.bootstrap.stopped")
    signals.worker_process_init.connect(child.on_process_init, dispatch_uid="orchestration.worker.child.init")
    signals.worker_process_shutdown.connect(
        child.on_process_shutdown, dispatch_uid="orchestration.worker.child.shutdown"
    )


def _on_setup(instance: Any, **_: Any) -> None:
    global _worker_process
    queues = list(instance.app.amqp.queues.consume_from)
    if len(queues) != 1 or not is_identifier(queues[0]):
        _exit(f"Unsupported queues {queues}: a worker serves one pool, such as `--queues local`.")
    if "prefork" not in instance.pool_cls.__module__:
        _exit("Unsupported pool implementation: use `--pool prefork`, so that hung stages can be killed.")
    # Celery has chosen the pool, and starts its processes later.
    instance.pool.Pool = StageProcesses
    size = max(instance.concurrency, instance.max_concurrency or 0)
    if size > MAX_SLOTS:
        _exit(f"Unsupported concurrency {size}: a worker runs at most {MAX_SLOTS} stages side by side.")
    # Models can be imported only after Celery has set up Django.
    from orchestration.worker.preflight import CannotStart, check_pool, import_workflows

    try:
        check_pool(queues[0])
        import_workflows()
    except CannotStart as error:
        _exit(f"This worker does not start: {error}")
    # Before the first child is forked: programs that stages start must not read the variables of the worker.
    close_memory()
    name = worker_name(instance.hostname, pool_id=queues[0])
    try:
        _worker_process = _WorkerProcess(name=name, pool_id=queues[0], size=size)
    except OSError as error:
        _exit(f"Cannot create the slot table: {error}.")


def begin_shutdown(**_: Any) -> None:
    """Let no stage start, and limit the time of those that run. A second call changes nothing."""
    if _worker_process is not None and not _worker_process.table.stopping_since_ns:
        _worker_process.table.stopping_since_ns = time.monotonic_ns()
        # An interpreter that exits visits every object several times. On a busy machine that takes longer than the
        # supervisor waits for the exit.
        gc.freeze()


def _on_stopped(**_: Any) -> None:
    """End the supervisor. After SIGHUP, Celery starts a new worker in this process, which has its own supervisor."""
    if _worker_process is not None:
        begin_shutdown()
        _worker_process.table.has_stopped = True


def _exit(reason: str) -> NoReturn:
    # Celery swallows exceptions of signal receivers, except SystemExit.
    print(reason, file=sys.stderr, flush=True)
    raise SystemExit(1)


def worker_name(hostname: str, *, pool_id: str) -> str:
    """Return the prefix of the ids of a process's workers: a worker of `celery@box` in `local` is `local-box-1`."""
    name, _, host = hostname.partition("@")
    parts = (pool_id, host or name) if name == "celery" or not host else (pool_id, name, host)
    return re.sub(r"[^A-Za-z0-9._-]", "-", "-".join(parts))[:_MAX_NAME_CHARACTERS]
