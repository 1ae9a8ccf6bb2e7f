"""A real worker process and a real scheduler, which a test can kill, freeze and bring back."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import psutil

from tests.harness.server import MahavishnuServer
from tests.harness.services import PROJECT_DIR
from tests.harness.waiting import wait_until

START_TIMEOUT_SECONDS = 60
STOP_TIMEOUT_SECONDS = 60

FIND = "from orchestration.sdk import find_definition\n"


class Part:
    """One program beside a server, with the server's environment and more."""

    def __init__(
        self, server: MahavishnuServer, *command: str, name: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self.server = server
        self._log_path = server.var_dir / f"{name}.log"
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *command],
                cwd=PROJECT_DIR,
                env={**server.environment, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def log_text(self) -> str:
        return self._log_path.read_text(encoding="utf-8", errors="replace")

    def terminate(self) -> int:
        """End the program as an operator would, and return its exit code."""
        self._process.terminate()
        return self._process.wait(timeout=STOP_TIMEOUT_SECONDS)

    def kill(self) -> None:
        """End the program as a crash would."""
        self._process.kill()
        self._process.wait(timeout=STOP_TIMEOUT_SECONDS)

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        if self.is_alive():
            self._process.send_signal(signal.SIGCONT)
            self.terminate()


class CeleryWorker(Part):
    """`celery worker` for one pool, with its children and its keeper."""

    def __init__(
        self, server: MahavishnuServer, *, pool_id: str, concurrency: int, environment: Mapping[str, str]
    ) -> None:
        self.pool_id = pool_id
        quiet = ("--quiet", "worker", "--loglevel", "INFO", "--without-gossip", "--without-mingle")
        queue = ("--queues", pool_id, "--concurrency", str(concurrency), "--hostname", "celery@test")
        command = ("-m", "celery", "--app", "mahavishnu_site", *quiet, *queue)
        super().__init__(server, *command, name=f"worker-{pool_id}", environment=environment)

    def children(self) -> list[psutil.Process]:
        """The processes that run stages."""
        return [
            child for child in psutil.Process(self.pid).children() if "keeper" not in (command_of(child) or "keeper")
        ]

    def keepers(self) -> list[psutil.Process]:
        """The process that speaks for the worker; none for a moment after it was killed."""
        return [child for child in psutil.Process(self.pid).children() if "keeper" in (command_of(child) or "")]

    def everything(self) -> list[psutil.Process]:
        return [psutil.Process(self.pid), *psutil.Process(self.pid).children(recursive=True)]

    def freeze(self) -> Callable[[], None]:
        """Stop every process of the worker, and return what lets them go on."""
        frozen = self.everything()

        def thaw() -> None:
            for process in frozen:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()

        def freeze() -> bool:
            for process in frozen:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.suspend()
            if can_be_written_to(self.server.database_url):
                return True
            thaw()
            return False

        wait_until(freeze, timeout_seconds=STOP_TIMEOUT_SECONDS, what="a moment at which the worker writes nothing")
        return thaw

    def close(self) -> None:
        """End all of it at once: a worker takes its time to say close_frame, and that is for its own test to see."""
        if self.is_alive():
            kill_everything(self)


def command_of(process: psutil.Process) -> str | None:
    """The command line of a process; None if it has ended, though nobody may have waited for it yet."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return None


def has_ended(process: psutil.Process) -> bool:
    """Tell whether a process has ended, though nobody may have waited for it yet."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def can_be_written_to(database_url: str) -> bool:
    """Tell whether nobody holds the one write lock of a SQLite database; one who is frozen would hold up everybody."""
    if not database_url.startswith("sqlite:///"):
        return True
    connection = sqlite3.connect(database_url.removeprefix("sqlite://"), timeout=0.2, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    except sqlite3.OperationalError:
        return False
    finally:
        connection.close()
    return True


class Engine:
    """Workers and schedulers beside one server, and what a test asks of them."""

    def __init__(self, server: MahavishnuServer) -> None:
        self.server = server
        self._parts: list[Part] = []
        self._schedulers = 0

    def worker(self, *, pool_id: str, concurrency: int = 1, **environment: str) -> CeleryWorker:
        """Start a worker, with further variables, and return when each of its slots is registered."""
        worker = CeleryWorker(self.server, pool_id=pool_id, concurrency=concurrency, environment=environment)
        self._parts.append(worker)
        wait_until(
            lambda: self.workers(pool_id).count("idle") >= concurrency or not worker.is_alive(),
            timeout_seconds=START_TIMEOUT_SECONDS,
            what=worker.log_text,
        )
        assert worker.is_alive(), worker.log_text()
        return worker

    def scheduler(self) -> Part:
        self._schedulers += 1
        scheduler = Part(self.server, "manage.py", "run_scheduler", name=f"scheduler-{self._schedulers}")
        self._parts.append(scheduler)
        wait_until(
            lambda: "The scheduler runs" in scheduler.log_text(),
            timeout_seconds=START_TIMEOUT_SECONDS,
            what=scheduler.log_text,
        )
        return scheduler

    def execute(self, code: str, **variables: Any) -> Any:
        """Run Python in another process of the server; see `Driver.execute`."""
        return self.server.services_driver.execute(code, **variables)

    def start(self, name: str, *, pool: str, prompt: str = "", **params: Any) -> str:
        """Start a workflow of `tests.jobs` and return its id."""
        code = FIND + "result = find_definition(name).start(prompt, pool=pool, **params).workflow_id"
        return str(self.execute(code, name=name, pool=pool, prompt=prompt, params=params))

    def workflow(self, workflow_id: str) -> dict[str, Any]:
        """The run as it is stored, with its stages by name."""
        code = """
from orchestration.models import Workflow
workflow = Workflow.objects.get(pk=workflow_id)
stages = {stage.name: stage for stage in workflow.stages.all()}
failed = [
    (each.stage.name, each.attempt, each.reason, each.error) for each in
    sorted((each for stage in stages.values() for each in stage.failed_attempts.all()), key=lambda each: each.pk)
]
result = {"status": workflow.status, "result": workflow.result, "error": workflow.error, "stages": stages,
          "failed_attempts": failed}
"""
        stored: dict[str, Any] = self.execute(code, workflow_id=workflow_id)
        return stored

    def workers(self, pool_id: str) -> list[str]:
        """The status of each worker of a pool, by id."""
        code = """
from orchestration.models import Worker
result = list(Worker.objects.filter(pool_id=pool_id).order_by("pk").values_list("status", flat=True))
"""
        return list(self.execute(code, pool_id=pool_id))

    def assert_adds_up(self, pool_id: str) -> None:
        """Hold every counter of a pool, and of its workflows, against a counter_audit."""
        code = """
from tests.models import counter_audit
result = [counter_audit.stored(pool_id), counter_audit.counted(pool_id)]
counter_audit.assert_workflows_add_up()
"""
        stored, counted = self.execute(code, pool_id=pool_id)
        assert stored == counted

    def close(self) -> None:
        for part in reversed(self._parts):
            part.close()

    def forget_workers(self, pool_id: str) -> None:
        """Take a pool's workers offline, once they are closed: whoever starts others for it is to find none."""
        code = """
from datetime import timedelta
from orchestration import services
from orchestration.db.clock import database_now
from orchestration.models import Worker
for worker_id in Worker.objects.filter(pool_id=pool_id).values_list("pk", flat=True):
    services.expire_worker(worker_id, silent_since=database_now() + timedelta(days=1))
"""
        self.execute(code, pool_id=pool_id)


def kill_everything(worker: CeleryWorker) -> None:
    """End a worker and all that belongs to it at the same moment, as a power cut would."""
    everything = worker.everything()
    for process in everything:
        with contextlib.suppress(psutil.NoSuchProcess):
            os.kill(process.pid, signal.SIGKILL)
    worker.kill()


def engine_of(server: MahavishnuServer) -> Iterator[Engine]:
    """An engine beside a server, for a fixture."""
    engine = Engine(server)
    yield engine
    engine.close()
