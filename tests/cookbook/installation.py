"""An installation that runs the code of the cookbook, and whose processes may be killed."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import psutil

from orchestration.processes import process_tree
from tests.harness.commands import command
from tests.harness.curl import curl
from tests.harness.engine import CeleryWorker, Engine
from tests.harness.processes import has_ended, kill_at_once
from tests.harness.server import MahavishnuServer
from tests.harness.waiting import wait_until

ADDRESS = "http://127.0.0.1:8690"

SLOTS = {"local": 2, "gpu": 1}

TIMEOUT_SECONDS = 60

CANCEL = """
from orchestration import services
from orchestration.models import Workflow
for workflow_id in Workflow.objects.filter(finished_at=None).values_list("pk", flat=True):
    services.cancel_workflow(workflow_id=workflow_id)
"""

COUNTERS = """
from tests.models import counter_audit
result = [counter_audit.gauges(read(pool)) for read in (counter_audit.stored, counter_audit.counted)]
counter_audit.assert_workflows_add_up()
"""

# Of the page's command lines, what the tests have instead.
WATCHES = ("--watch", "--verbosity", "2")


class RefusedLine(Exception):
    """A command line of a page had another exit code than 0; the message is its output."""


@contextmanager
def ended(processes: list[psutil.Process]) -> Iterator[None]:
    """Wait at the end of the block until these processes have ended."""
    yield
    wait_until(lambda: all(map(has_ended, processes)), timeout_seconds=TIMEOUT_SECONDS, what=f"the end of {processes}")


class Installation:
    """A server with a Valkey, a scheduler, and a worker in each pool."""

    def __init__(self, server: MahavishnuServer) -> None:
        self.server = server
        self.engine = Engine(server)
        self._scheduler = self.engine.scheduler()
        self._workers = {pool: self._start_worker(pool) for pool in SLOTS}

    def run_line(self, line: list[str], replaced: Mapping[str, str]) -> str:
        """Run a command line of a page, without what it shows on a terminal, and return its output.

        Args:
            line: `mahavishnu` or `curl`, and its arguments.
            replaced: What the test has instead of these texts.
        """
        program, *words = [word for word in line if word not in WATCHES]
        for text, other in {ADDRESS: self.server.http_url, **replaced}.items():
            words = [word.replace(text, other) for word in words]
        if program == "mahavishnu":
            done = command(self.server, *words)
        else:
            options = ("--silent", "--show-error", "--fail-with-body")
            given = (curl(self.server.var_dir), *options, *words)
            done = subprocess.run(given, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
        if done.returncode != 0:
            raise RefusedLine(done.stdout + done.stderr)
        return done.stdout.strip()

    def worker(self, pool: str) -> CeleryWorker:
        return self._workers[pool]

    def stop_worker(self, pool: str) -> None:
        """Stop a worker, as when its machine is taken away with a notice."""
        assert self._workers[pool].terminate() == 0

    def start_worker(self, pool: str) -> None:
        """Start the worker of a pool again."""
        self._workers[pool] = self._start_worker(pool)

    def kill_worker(self, pool: str) -> None:
        """Kill the main process of a worker, wait until its supervisor has ended its stages, and start it again."""
        with ended(process_tree(self._workers[pool].pid)):
            self._workers[pool].kill()
        self.start_worker(pool)

    def cut_power(self, pool: str) -> None:
        """Kill a worker with all its processes, and start it again. Only the lease of its stages ends these."""
        self._workers[pool].kill_with_children()
        self.start_worker(pool)

    def kill_children(self, pool: str) -> None:
        """Kill the processes of a worker that run stages, and wait until its supervisor has ended what they started.

        The worker replaces them.
        """
        children = self._workers[pool].children()
        with ended([process for child in children for process in process_tree(child.pid)]):
            kill_at_once(children)

    def kill_scheduler(self, pool: str) -> None:
        """Kill the scheduler, and start another one."""
        self._scheduler.kill()
        self._scheduler = self.engine.scheduler()

    def kill_valkey(self, pool: str) -> None:
        """Kill the Valkey, with all that it has in its memory, and start it again."""
        self.server.valkey.kill()
        self.server.valkey.start()

    def kill_server(self, pool: str) -> None:
        """Kill the server, and start it again."""
        self.server.kill()
        self.server.start()

    def assert_counters_match(self, pool: str) -> None:
        """Check the counters of a pool against a recount. The totals also count what a retry has repeated."""
        stored, counted = self.engine.execute(COUNTERS, pool=pool)
        assert stored == counted, (stored, counted)

    def finish(self) -> None:
        """Cancel what a test has left running, and wait for the workers. Those that were killed stay offline."""
        self.engine.execute(CANCEL)
        wait_until(
            lambda: not any("busy" in self.engine.workers(pool) for pool in SLOTS),
            timeout_seconds=TIMEOUT_SECONDS,
            what="free workers",
        )

    def close(self) -> None:
        self.engine.close()

    def _start_worker(self, pool: str) -> CeleryWorker:
        return self.engine.worker(pool_id=pool, concurrency=SLOTS[pool])


KILLS: dict[str, Callable[[Installation, str], None]] = {
    "worker": Installation.kill_worker,
    "child": Installation.kill_children,
    "scheduler": Installation.kill_scheduler,
    "valkey": Installation.kill_valkey,
    "server": Installation.kill_server,
    "power": Installation.cut_power,
}
"""What a test may kill, each a call with the pool of the job. After `power`, only an expired lease ends a stage."""
