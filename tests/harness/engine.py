"""Real Celery workers and schedulers beside a server, which a test can kill, freeze and restart."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import psutil

from mahavishnu_site.celery_config import KEY_PREFIX
from orchestration.processes import process_tree
from tests.harness.processes import command_of, kill_at_once
from tests.harness.programs import Program
from tests.harness.server import MahavishnuServer
from tests.harness.sqlite_lock import is_writable
from tests.harness.waiting import wait_until

START_TIMEOUT_SECONDS = 60
STOP_TIMEOUT_SECONDS = 60

SUPERVISOR = "orchestration.worker.supervisor"

FIND = "from orchestration.sdk import find_definition\n"


class EngineProcess:
    """A program that runs beside a server, with the server's environment and additional variables.

    Args:
        command: A module and its arguments, as after `python -m`.
    """

    def __init__(
        self, server: MahavishnuServer, *command: str, name: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self.server = server
        self._log_path = server.var_dir / f"{name}.log"
        self._process = Program(
            "-m", *command, environment={**server.environment, **(environment or {})}, log_path=self._log_path
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def log_text(self) -> str:
        return self._log_path.read_text(encoding="utf-8", errors="replace")

    def terminate(self) -> int:
        """Stop the program, as an operator would, and return its exit code."""
        self._process.terminate()
        return self._process.wait(timeout=STOP_TIMEOUT_SECONDS)

    def kill(self) -> None:
        """Kill the program, as a crash would."""
        self._process.kill()
        self._process.wait(timeout=STOP_TIMEOUT_SECONDS)

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        """Stop the program, even if it is frozen; kill it if it does not end."""
        if self.is_alive():
            self._process.send_signal(signal.SIGCONT)
            try:
                self.terminate()
            except subprocess.TimeoutExpired:
                self.kill()


class CeleryWorker(EngineProcess):
    """`celery worker` for one pool, with its children and its supervisor."""

    def __init__(
        self,
        server: MahavishnuServer,
        *,
        pool_id: str,
        concurrency: int,
        environment: Mapping[str, str],
        options: Sequence[str] = (),
    ) -> None:
        self.pool_id = pool_id
        self.concurrency = concurrency
        quiet = ("--quiet", "worker", "--loglevel", "INFO", "--without-gossip", "--without-mingle")
        queue = ("--queues", pool_id, "--concurrency", str(concurrency), "--hostname", "celery@test")
        command = ("celery", "--app", "mahavishnu_site", *quiet, *queue, *options)
        super().__init__(server, *command, name=f"worker-{pool_id}", environment=environment)

    def children(self) -> list[psutil.Process]:
        """Return the processes that run stages. Wait for the successor of a killed one."""
        wait_until(
            lambda: len(self._stage_processes()) == self.concurrency,
            timeout_seconds=START_TIMEOUT_SECONDS,
            what=self.log_text,
        )
        return self._stage_processes()

    def _stage_processes(self) -> list[psutil.Process]:
        return [child for child, command in self._child_commands() if command and SUPERVISOR not in command]

    def supervisors(self) -> list[psutil.Process]:
        """Return the supervisor of the worker. The list is empty for a moment after it was killed."""
        return [child for child, command in self._child_commands() if command and SUPERVISOR in command]

    def _child_commands(self) -> list[tuple[psutil.Process, str | None]]:
        return [(child, command_of(child)) for child in psutil.Process(self.pid).children()]

    def freeze(self) -> Callable[[], None]:
        """Freeze every process of the worker, and return the function that resumes them."""
        frozen = process_tree(self.pid)
        assert frozen, self.log_text()

        def thaw() -> None:
            for process in frozen:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()

        def freeze() -> bool:
            for process in frozen:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.suspend()
            if is_writable(self.server.database_url):
                return True
            thaw()
            return False

        wait_until(freeze, timeout_seconds=STOP_TIMEOUT_SECONDS, what="a moment without a write of the worker")
        return thaw

    def kill_with_children(self) -> None:
        """Kill the worker and all its descendants at the same moment, as a power cut would."""
        kill_at_once(process_tree(self.pid))
        self.kill()

    def close(self) -> None:
        """Kill all processes at once: a graceful shutdown takes long, and has its own test."""
        if self.is_alive():
            self.kill_with_children()


class Engine:
    """Workers and schedulers beside one server, and queries of what they have done."""

    def __init__(self, server: MahavishnuServer) -> None:
        self.server = server
        self._processes: list[EngineProcess] = []
        self._schedulers = 0

    def worker(
        self, *, pool_id: str, concurrency: int = 1, options: Sequence[str] = (), **environment: str
    ) -> CeleryWorker:
        """Start a worker with additional options and variables, and wait until each of its slots is registered."""
        before = {process for process, _ in self._slots(pool_id)}
        worker = self.begin_worker(pool_id=pool_id, concurrency=concurrency, options=options, **environment)

        def is_registered() -> bool:
            # By process: a slot of this worker may be busy at once, and one of another worker may be idle.
            slots = self._slots(pool_id)
            return sum(status != "offline" and process not in before for process, status in slots) >= concurrency

        wait_until(
            lambda: is_registered() or not worker.is_alive(),
            timeout_seconds=START_TIMEOUT_SECONDS,
            what=worker.log_text,
        )
        assert worker.is_alive(), worker.log_text()
        return worker

    def begin_worker(
        self, *, pool_id: str, concurrency: int = 1, options: Sequence[str] = (), **environment: str
    ) -> CeleryWorker:
        """Start a worker that may end at once."""
        worker = CeleryWorker(
            self.server, pool_id=pool_id, concurrency=concurrency, environment=environment, options=options
        )
        self._processes.append(worker)
        return worker

    def scheduler(self, **environment: str) -> EngineProcess:
        """Start a scheduler with additional variables."""
        self._schedulers += 1
        name = f"scheduler-{self._schedulers}"
        command = ("mahavishnu_site", "run_scheduler")
        scheduler = EngineProcess(self.server, *command, name=name, environment=environment)
        self._processes.append(scheduler)
        wait_until(
            lambda: "Scheduler started" in scheduler.log_text(),
            timeout_seconds=START_TIMEOUT_SECONDS,
            what=scheduler.log_text,
        )
        return scheduler

    def execute(self, code: str, **variables: Any) -> Any:
        """Run Python in the server's driver process; see `Driver.execute`."""
        return self.server.services_driver.execute(code, **variables)

    def start(self, name: str, *, pool: str, prompt: str = "", **params: Any) -> str:
        """Start a workflow of `tests.jobs` and return its id."""
        code = FIND + "result = find_definition(name).start(prompt, pool=pool, **params).workflow_id"
        return str(self.execute(code, name=name, pool=pool, prompt=prompt, params=params))

    def workflow(self, workflow_id: str) -> dict[str, Any]:
        """Return the stored fields of a run, and its stages by name."""
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
        """Return the status of each worker of a pool, in the order of their ids."""
        return [status for _, status in self._slots(pool_id)]

    def _slots(self, pool_id: str) -> list[tuple[str, str]]:
        """Return process and status of each worker of a pool, in the order of their ids."""
        code = """
from orchestration.models import Worker
result = list(Worker.objects.filter(pool_id=pool_id).order_by("pk").values_list("process", "status"))
"""
        return list(self.execute(code, pool_id=pool_id))

    def assert_counters_match(self, pool_id: str) -> None:
        """Check every counter of a pool and of its workflows against a recount."""
        code = """
from tests.models import counter_audit
result = [counter_audit.stored(pool_id), counter_audit.counted(pool_id)]
counter_audit.assert_workflows_add_up()
"""
        stored, counted = self.execute(code, pool_id=pool_id)
        assert stored == counted, (stored, counted)

    def close(self) -> None:
        for process in reversed(self._processes):
            process.close()

    def finish_runs(self, pool_id: str) -> None:
        """Cancel the unfinished runs of a pool, and wait until its workers are free. For a pool that tests share."""
        code = """
from orchestration import services
from orchestration.models import Workflow
for workflow_id in Workflow.objects.filter(pool_id=pool_id, finished_at=None).values_list("pk", flat=True):
    services.cancel_workflow(workflow_id=workflow_id)
"""
        self.execute(code, pool_id=pool_id)
        wait_until(
            lambda: not {"busy", "offline"} & set(self.workers(pool_id)),
            timeout_seconds=STOP_TIMEOUT_SECONDS,
            what=f"free workers in pool {pool_id}",
        )
        # The totals count a stage that a test has restarted twice; `assert_counters_match` of the next test does not.
        code = """
from tests.models import counter_audit
counter_audit.restore_totals(pool_id)
"""
        self.execute(code, pool_id=pool_id)

    def expire_workers(self, pool_id: str) -> None:
        """Mark the workers of a pool offline. Call this after closing them, so that the next test finds none."""
        code = """
from datetime import timedelta
from orchestration import services
from orchestration.db.clock import database_now
from orchestration.models import Worker
for worker_id in Worker.objects.filter(pool_id=pool_id).values_list("pk", flat=True):
    services.expire_worker(worker_id, no_heartbeat_since=database_now() + timedelta(days=1))
"""
        self.execute(code, pool_id=pool_id)


def queue_prefix(server: MahavishnuServer) -> str:
    """Return what the names of an installation's keys in Redis begin with."""
    code = "from orchestration.services.installation import installation_id; result = installation_id()"
    return f"{KEY_PREFIX}{server.services_driver.execute(code)}."


def engine_of(server: MahavishnuServer) -> Iterator[Engine]:
    """Yield an engine beside a server, for a fixture, and close it."""
    engine = Engine(server)
    yield engine
    engine.close()
