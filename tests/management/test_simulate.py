"""`manage.py simulate`: a living system that is true to its seed, to its options and to the rules of the services."""

from __future__ import annotations

import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import pytest
from django.db import transaction

from orchestration import services
from orchestration.models import Pool, Stage, Worker, Workflow
from orchestration.simulation import ENDED, Simulation, SimulationOptions
from tests.harness.client import connect
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer
from tests.harness.services import PROJECT_DIR
from tests.models.counter_audit import assert_all_add_up

SMALL = SimulationOptions(pools=2, workers=4, workflows=3, failures=0.3, seed=7)
STATE_LEFT = """
from orchestration.models import Pool, Worker, Workflow
result = {
    "unfinished": Workflow.objects.filter(finished_at=None).count(),
    "cancelled": Workflow.objects.filter(error="The simulation ended").count(),
    "workflows": Workflow.objects.count(),
    "workers": sorted(set(Worker.objects.values_list("status", flat=True))),
    "queued": sum(Pool.objects.values_list("queue_size", flat=True)),
}
"""


def plan(**changed: Any) -> SimulationOptions:
    return SimulationOptions(**{field: getattr(SMALL, field) for field in SimulationOptions.__slots__} | changed)


def state() -> list[Any]:
    """Everything stored but times."""
    return [
        list(Pool.objects.order_by("pk").values_list("pk", "status", "queue_size", "tasks_completed", "tasks_failed")),
        list(Worker.objects.order_by("pk").values_list("pk", "pool_id", "status")),
        list(Workflow.objects.order_by("pk").values_list("pk", "adapter", "prompt", "pool_id", "status", "error")),
        list(Stage.objects.order_by("pk").values_list("workflow_id", "name", "status", "worker_id", "error")),
    ]


def state_after(changes: int, *, plan: SimulationOptions) -> list[Any]:
    """What is stored after so many changes, which are then undone."""
    with transaction.atomic():
        sum(1 for _ in islice(Simulation(plan).changes(), changes))
        found = state()
        transaction.set_rollback(True)
    return found


@pytest.mark.django_db
def test_a_seed_tells_the_same_story_every_time() -> None:
    first, again, other = (state_after(150, plan=plan(seed=seed)) for seed in (7, 7, 8))
    assert first == again
    assert first[2] != other[2]
    # As many pools and workers as planned.
    assert [len(rows) for rows in first[:2]] == [2, 4]
    assert [row[0] for row in first[1]] == [f"sim_pool_{pool}_worker_{n}" for pool in (1, 2) for n in (1, 2)]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("failures", "ends"), [(0.0, {"completed"}), (1.0, {"failed", "timeout", "cancelled"})], ids=["none", "all"]
)
def test_as_many_workflows_fail_as_was_asked_for(failures: float, ends: set[str]) -> None:
    simulation = Simulation(plan(failures=failures))
    sum(1 for _ in islice(simulation.changes(), 300))
    assert set(simulation.ended) <= ends
    assert simulation.ended.total() >= 5
    assert simulation.refused == 0
    assert simulation.running == simulation.created - simulation.ended.total() <= 3
    assert_all_add_up()


@pytest.mark.django_db
def test_at_the_end_nothing_is_left_that_looks_alive_and_the_next_run_goes_on() -> None:
    created = cancelled = 0
    for _ in range(2):
        simulation = Simulation(SMALL)
        sum(1 for _ in islice(simulation.changes(), 100))
        created += simulation.created
        cancelled += simulation.end()
        assert Workflow.objects.filter(error=ENDED).count() == cancelled > 0
        assert not Workflow.objects.filter(finished_at=None).exists()
        assert set(Worker.objects.values_list("status", flat=True)) == {"offline"}
        assert_all_add_up()
    assert set(Workflow.objects.values_list("pk", flat=True)) == {f"sim_7_{n}" for n in range(1, created + 1)}
    assert (Pool.objects.count(), Worker.objects.count()) == (2, 4)


@pytest.mark.django_db
def test_what_others_change_is_let_go() -> None:
    simulation = Simulation(SMALL)
    changes = simulation.changes()
    sum(1 for _ in islice(changes, 60))
    for workflow in Workflow.objects.filter(status="running"):
        services.cancel_workflow(workflow_id=workflow.pk, reason="By hand")
    for worker in Worker.objects.filter(pool_id="sim_pool_1"):
        services.remove_worker(worker_id=worker.pk)
    sum(1 for _ in islice(changes, 60))
    services.drain_pool(pool_id="sim_pool_1")
    sum(1 for _ in islice(changes, 60))
    assert simulation.refused > 0
    # All that is new goes to the other pool; when that accepts nothing either, it is over.
    newest = Workflow.objects.order_by("-created_at").values_list("pool_id", flat=True)[:3]
    assert set(newest) == {"sim_pool_2"}
    services.drain_pool(pool_id="sim_pool_2")
    list(changes)
    simulation.end()
    assert not Workflow.objects.filter(finished_at=None).exists()
    assert_all_add_up()
    # The next run makes pools of its own.
    sum(1 for _ in islice(Simulation(SMALL).changes(), 2))
    assert sorted(Pool.objects.values_list("pk", "status")) == [
        ("sim_pool_1", "draining"),
        ("sim_pool_2", "draining"),
        ("sim_pool_3", "active"),
        ("sim_pool_4", "active"),
    ]


@contextmanager
def simulating(server: MahavishnuServer, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "manage.py", "simulate", *arguments],
        cwd=PROJECT_DIR,
        env=server.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        yield process


@contextmanager
def nobody_writes(server: MahavishnuServer) -> Iterator[None]:
    """Hold the one write lock of the server's database."""
    connection = sqlite3.connect(server.database_url.removeprefix("sqlite://"), timeout=60, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")
    finally:
        connection.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
async def test_a_run_is_heard_and_ends_cleanly_when_it_is_told_to(
    start_server: StartServer, number: signal.Signals
) -> None:
    server = start_server()
    async with connect(server) as client:
        await client.subscribe("global")
        with simulating(server, "--rate", "100", "--seed", "3", "--failures", "0") as process:
            await client.event("workflow.completed", within_seconds=30)
            # As `timeout` does, to the process and to its group; and it cannot end in between.
            with nobody_writes(server):
                process.send_signal(number)
                process.send_signal(number)
            output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    left = server.driver().execute(STATE_LEFT)
    counts = {"workflows": left["workflows"], "cancelled": left["cancelled"]}
    assert left == {"unfinished": 0, "queued": 0, "workers": ["offline"], **counts}
    completed = left["workflows"] - left["cancelled"]
    assert re.fullmatch(
        r"Simulating with --seed 3\. Ctrl-C ends it\.\n"
        r"Made \d+ changes in \d+\.\d s \(\d+\.\d a second\)\. "
        rf"Of {left['workflows']} workflows: {left['cancelled']} running, {completed} completed\. "
        rf"At the end {left['cancelled']} were cancelled and the workers went offline\.\n",
        output,
    )


def test_a_duration_and_a_rate_are_kept_and_a_missing_server_is_told(start_server: StartServer) -> None:
    server = start_server(started=False)
    done = server.manage("simulate", "--duration", "4", "--rate", "10", "--pools", "1", "--workers", "2")
    assert done.returncode == 0
    assert done.stderr == (
        f"No server is running: {server.http_url}/health does not answer (Connection refused). "
        "MAHAVISHNU_HOST and MAHAVISHNU_PORT say where to look. "
        "Events are stored all the same, and reach clients that resume.\n"
    )
    made = re.search(r"Made (\d+) changes in (\d+\.\d) s", done.stdout)
    assert made is not None
    # One at the start and one each tenth of a second; a machine that is busy makes fewer, and never more.
    assert 20 <= int(made[1]) <= 41
    assert 4.0 <= float(made[2]) < 40


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["--workers", "2"], 1, "CommandError: --workers 2 for --pools 3: expected at least one worker for each pool."),
        (["--failures", "2"], 2, "manage.py simulate: error: argument --failures: '2': expected a number from 0 to 1"),
    ],
)
def test_what_cannot_be_simulated_is_refused(
    server: MahavishnuServer, arguments: list[str], code: int, reason: str
) -> None:
    done = server.manage("simulate", *arguments)
    assert (done.returncode, done.stdout, done.stderr.splitlines()[-1]) == (code, "", reason)
