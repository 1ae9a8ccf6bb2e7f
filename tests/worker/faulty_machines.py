"""Workers and schedulers that are killed, frozen, stopped, drained and restarted in a random order."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Callable
from typing import Final

import psutil
import psycopg

from orchestration.processes import process_tree
from tests.harness.engine import CeleryWorker, Engine, EngineProcess
from tests.harness.sqlite_lock import is_writable
from tests.harness.waiting import wait_until

HEAL_SECONDS: Final = 120


class FaultyMachines:
    """Three workers in two pools, two schedulers, their Valkey and their database.

    Args:
        engine: The engine of the server.
        pools: The pools; the first has two workers.
        random: Chooses the faults.
        lease_seconds: The lease of the workers, beyond which some are suspended.

    Attributes:
        faults: What was done, in order.
    """

    def __init__(self, engine: Engine, pools: tuple[str, str], random: random.Random, *, lease_seconds: float) -> None:
        self.faults: list[str] = []
        self._engine = engine
        self._random = random
        self._lease_seconds = lease_seconds
        self._workers: dict[str, CeleryWorker] = {}
        self._schedulers: list[EngineProcess] = []
        self._pools = {"a": pools[0], "b": pools[0], "c": pools[1]}
        self._suspended: list[psutil.Process] = []

    def start(self) -> None:
        for name, pool_id in self._pools.items():
            self._workers[name] = self._engine.begin_worker(pool_id=pool_id, concurrency=2)
        self._schedulers = [self._engine.scheduler() for _ in range(2)]

    def cause_fault(self) -> None:
        """Cause one fault, and repair what the last ones have left stopped for a while."""
        fault = self._random.choice(_FAULTS)
        self.faults.append(fault.__name__.lstrip("_"))
        fault(self)

    def heal(self) -> None:
        """Start what does not run."""
        self._resume()
        if not self._engine.server.valkey.answers():
            self._engine.server.valkey.ensure_running()
        for number, scheduler in enumerate(self._schedulers):
            if not scheduler.is_alive():
                self._schedulers[number] = self._engine.scheduler()
        for name in self._pools:
            self._restart_worker(name)

    def _restart_worker(self, name: str) -> None:
        if not self._workers[name].is_alive():
            self._workers[name] = self._engine.begin_worker(pool_id=self._pools[name], concurrency=2)

    def _any_worker(self) -> tuple[str, CeleryWorker]:
        name = self._random.choice(sorted(self._workers))
        self._restart_worker(name)
        return name, self._workers[name]

    def _kill_child(self) -> None:
        _, worker = self._any_worker()
        if children := worker._stage_processes():
            _send(self._random.choice(children), signal.SIGKILL)

    def _terminate_child(self) -> None:
        _, worker = self._any_worker()
        if children := worker._stage_processes():
            _send(self._random.choice(children), signal.SIGTERM)

    def _kill_worker(self) -> None:
        _, worker = self._any_worker()
        worker.kill()

    def _kill_machine(self) -> None:
        _, worker = self._any_worker()
        worker.kill_with_children()

    def _kill_supervisor(self) -> None:
        _, worker = self._any_worker()
        for supervisor in worker.supervisors():
            _send(supervisor, signal.SIGKILL)

    def _stop_worker(self) -> None:
        _, worker = self._any_worker()
        worker.terminate()

    def _terminate_all_processes_of_worker(self) -> None:
        _, worker = self._any_worker()
        for process in process_tree(worker.pid):
            _send(process, signal.SIGTERM)

    def _drain_worker(self) -> None:
        name, _ = self._any_worker()
        code = """
from orchestration import services
from orchestration.models import Worker
online = Worker.objects.filter(pool_id=pool_id).exclude(process="").order_by("pk").first()
if online is not None:
    services.drain_worker(worker_id=online.pk)
"""
        self._engine.execute(code, pool_id=self._pools[name])
        # A drained process takes nothing until its restart, and any of the pool may be the drained one.
        for other, pool_id in self._pools.items():
            if pool_id == self._pools[name] and self._workers[other].is_alive():
                self._workers[other].terminate()

    def _kill_scheduler(self) -> None:
        number = self._random.randrange(len(self._schedulers))
        self._schedulers[number].kill()
        self._schedulers[number] = self._engine.scheduler()

    def _freeze_worker(self) -> None:
        _, worker = self._any_worker()
        self._suspend(process_tree(worker.pid))
        time.sleep(self._random.uniform(0, 2 * self._lease_seconds))
        self._resume()

    def _suspend_machine(self) -> None:
        trees = [process_tree(each.pid) for each in (*self._workers.values(), *self._schedulers) if each.is_alive()]
        self._suspend([process for tree in trees for process in tree])
        time.sleep(self._lease_seconds * 1.5)
        self._resume()

    def _kill_valkey(self) -> None:
        valkey = self._engine.server.valkey
        valkey.kill()
        time.sleep(self._random.uniform(0, 2))
        valkey.start()

    def _disconnect_database(self) -> None:
        url = self._engine.server.database_url
        if not url.startswith("postgres"):
            return
        name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
        with psycopg.connect(url, dbname="postgres", autocommit=True) as admin:
            admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
            try:
                admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
                time.sleep(self._random.uniform(0, 2))
            finally:
                admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        self._engine.execute("from django.db import connection\nconnection.close()")

    def _suspend(self, processes: list[psutil.Process]) -> None:
        """Suspend processes at a moment when none of them holds the only write lock of SQLite."""

        def suspend() -> bool:
            for process in processes:
                _send(process, signal.SIGSTOP)
            if is_writable(self._engine.server.database_url):
                return True
            for process in processes:
                _send(process, signal.SIGCONT)
            return False

        self._suspended = processes
        wait_until(suspend, timeout_seconds=HEAL_SECONDS, what="a moment without a write")

    def _resume(self) -> None:
        for process in self._suspended:
            _send(process, signal.SIGCONT)
        self._suspended = []


def _send(process: psutil.Process, number: signal.Signals) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(number)


_FAULTS: Final[list[Callable[[FaultyMachines], None]]] = [
    FaultyMachines._kill_child,
    FaultyMachines._terminate_child,
    FaultyMachines._kill_worker,
    FaultyMachines._kill_machine,
    FaultyMachines._kill_supervisor,
    FaultyMachines._stop_worker,
    FaultyMachines._terminate_all_processes_of_worker,
    FaultyMachines._drain_worker,
    FaultyMachines._kill_scheduler,
    FaultyMachines._freeze_worker,
    FaultyMachines._suspend_machine,
    FaultyMachines._kill_valkey,
    FaultyMachines._disconnect_database,
]
