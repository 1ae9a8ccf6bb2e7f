"""`manage.py simulate`: it follows its seed and options, and keeps the rules of the services."""

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
from django.core.management.base import CommandError
from django.db import transaction

from orchestration import services
from orchestration.models import Pool, Stage, Worker, Workflow
from orchestration.simulation import SIMULATION_ENDED, Simulation, SimulationOptions
from realtime.management.commands import simulate
from tests.harness.client import connect
from tests.harness.commands import command
from tests.harness.fixtures import StartServer
from tests.harness.programs import PROJECT_DIR
from tests.harness.server import MahavishnuServer
from tests.models.counter_audit import assert_all_add_up

SMALL = SimulationOptions(pools=2, workers=4, workflows=3, failure_rate=0.3, seed=7)
SIGNALS = 100
FINAL_STATE = """
from orchestration.models import Pool, Worker, Workflow
workflows = Workflow.objects.filter(pk__startswith=f"sim_{seed}_")
result = {
    "unfinished": workflows.filter(finished_at=None).count(),
    "cancelled": workflows.filter(error="The simulation ended").count(),
    "workflows": workflows.count(),
    "workers": sorted(set(Worker.objects.filter(pk__startswith="sim_").values_list("status", flat=True))),
    "queued": sum(Pool.objects.filter(pk__startswith="sim_").values_list("queue_size", flat=True)),
}
"""


def options(**changed: Any) -> SimulationOptions:
    return SimulationOptions(**{field: getattr(SMALL, field) for field in SimulationOptions.__slots__} | changed)


def state() -> list[Any]:
    """Return all stored rows, without times."""
    return [
        list(Pool.objects.order_by("pk").values_list("pk", "status", "queue_size", "tasks_completed", "tasks_failed")),
        list(Worker.objects.order_by("pk").values_list("pk", "pool_id", "status")),
        list(Workflow.objects.order_by("pk").values_list("pk", "adapter", "prompt", "pool_id", "status", "error")),
        list(Stage.objects.order_by("pk").values_list("workflow_id", "name", "status", "worker_id", "error")),
    ]


def state_after(changes: int, *, options: SimulationOptions) -> list[Any]:
    """Return the stored rows after this number of changes, and roll the changes back."""
    with transaction.atomic():
        sum(1 for _ in islice(Simulation(options).changes(), changes))
        rows = state()
        transaction.set_rollback(True)
    return rows


@pytest.mark.django_db
def test_same_seed_gives_the_same_rows() -> None:
    first, again, other = (state_after(150, options=options(seed=seed)) for seed in (7, 7, 8))
    assert first == again
    assert first[2] != other[2]
    # The numbers of pools and workers in the options.
    assert [len(rows) for rows in first[:2]] == [2, 4]
    assert [row[0] for row in first[1]] == [f"sim_pool_{pool}_worker_{n}" for pool in (1, 2) for n in (1, 2)]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("failure_rate", "statuses"), [(0.0, {"completed"}), (1.0, {"failed", "timeout", "cancelled"})], ids=["none", "all"]
)
def test_failure_rate_decides_the_outcomes(failure_rate: float, statuses: set[str]) -> None:
    simulation = Simulation(options(failure_rate=failure_rate))
    sum(1 for _ in islice(simulation.changes(), 300))
    assert set(simulation.outcomes) <= statuses
    assert simulation.outcomes.total() >= 5
    assert simulation.conflicts == 0
    assert simulation.running == simulation.created - simulation.outcomes.total() <= 3
    assert_all_add_up()


@pytest.mark.django_db
def test_stop_leaves_no_unfinished_rows_and_the_next_run_continues() -> None:
    created = cancelled = 0
    for _ in range(2):
        simulation = Simulation(SMALL)
        sum(1 for _ in islice(simulation.changes(), 100))
        created += simulation.created
        cancelled += simulation.stop()
        assert Workflow.objects.filter(error=SIMULATION_ENDED).count() == cancelled > 0
        assert not Workflow.objects.filter(finished_at=None).exists()
        assert set(Worker.objects.values_list("status", flat=True)) == {"offline"}
        assert_all_add_up()
    assert set(Workflow.objects.values_list("pk", flat=True)) == {f"sim_7_{n}" for n in range(1, created + 1)}
    assert (Pool.objects.count(), Worker.objects.count()) == (2, 4)


@pytest.mark.django_db
def test_simulation_survives_external_changes() -> None:
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
    assert simulation.conflicts > 0
    # New workflows go to the other pool. Once that is draining too, the simulation ends.
    newest = Workflow.objects.order_by("-created_at").values_list("pool_id", flat=True)[:3]
    assert set(newest) == {"sim_pool_2"}
    services.drain_pool(pool_id="sim_pool_2")
    list(changes)
    simulation.stop()
    assert not Workflow.objects.filter(finished_at=None).exists()
    assert_all_add_up()
    # The next run creates new pools.
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
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def locked_for_writing(server: MahavishnuServer) -> Iterator[None]:
    """Hold the write lock of the server's SQLite database."""
    connection = sqlite3.connect(server.database_url.removeprefix("sqlite://"), timeout=60, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")
    finally:
        connection.close()


@pytest.mark.parametrize(("number", "seed"), [(signal.SIGINT, 3), (signal.SIGTERM, 4)], ids=["Ctrl-C", "SIGTERM"])
async def test_run_emits_events_and_a_signal_ends_it_cleanly(
    server: MahavishnuServer, number: signal.Signals, seed: int
) -> None:
    async with connect(server) as client:
        await client.subscribe("global")
        with simulating(server, "--rate", "100", "--seed", f"{seed}", "--failures", "0") as process:
            await client.event("workflow.completed", within_seconds=30)
            # More than once, as `timeout` sends it to process and group. One may arrive while another is handled. The
            # lock keeps the run from ending in between.
            with locked_for_writing(server):
                for _ in range(SIGNALS):
                    process.send_signal(number)
            output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    final = server.services_driver.execute(FINAL_STATE, seed=seed)
    counts = {"workflows": final["workflows"], "cancelled": final["cancelled"]}
    assert final == {"unfinished": 0, "queued": 0, "workers": ["offline"], **counts}
    completed = final["workflows"] - final["cancelled"]
    assert re.fullmatch(
        rf"Simulating with --seed {seed}\. Press Ctrl-C to stop\.\n"
        # A slow machine takes long enough for a line of progress, every ten seconds.
        r"(?:\d+ s, \d+ changes: [\w, ]+\n)*"
        r"Made \d+ changes in \d+\.\d s \(\d+\.\d per second\)\. "
        rf"{final['workflows']} workflows: {final['cancelled']} running, {completed} completed\. "
        rf"Cancelled {final['cancelled']} workflows and marked the workers offline\.\n",
        output,
    )


def test_a_later_signal_aborts(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(simulate, "monotonic", lambda: now)
    handle_signal = simulate.abort_on_later_signal()
    handle_signal(signal.SIGTERM, None)
    now += 0.9
    handle_signal(signal.SIGTERM, None)
    now += 0.1
    with pytest.raises(CommandError, match="Aborted: some workflows may still be running") as raised:
        handle_signal(signal.SIGTERM, None)
    assert raised.value.returncode == 143


def test_duration_and_rate_are_kept_without_a_server(start_server: StartServer) -> None:
    server = start_server(started=False)
    done = server.manage("simulate", "--duration", "4", "--rate", "10", "--pools", "1", "--workers", "2")
    assert done.returncode == 0
    assert done.stderr == (
        f"No server is running at {server.http_url}/health (Connection refused). "
        "Check MAHAVISHNU_HOST and MAHAVISHNU_PORT. Events are stored; clients receive them when they resume.\n"
    )
    made = re.search(r"Made (\d+) changes in (\d+\.\d) s", done.stdout)
    assert made is not None
    # One at the start and one each tenth of a second, and never more. A fifth of them shows that a busy machine made
    # changes all the time.
    assert 8 <= int(made[1]) <= 41
    assert 4.0 <= float(made[2]) < 40


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (
            ["--workers", "2"],
            1,
            "CommandError: --workers 2 is less than --pools 3: expected at least one worker per pool.",
        ),
        (["--failures", "2"], 2, "manage.py simulate: error: argument --failures: '2': expected a number from 0 to 1"),
    ],
)
def test_invalid_options_are_rejected(server: MahavishnuServer, arguments: list[str], code: int, reason: str) -> None:
    done = command(server, "simulate", *arguments)
    assert (done.returncode, done.stdout, done.stderr.splitlines()[-1]) == (code, "", reason)
