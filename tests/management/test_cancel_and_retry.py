"""`manage.py cancel_workflow` and `manage.py retry_workflow`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.harness.client import connect
from tests.harness.commands import command, run_with_closed_output
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer

START = """
from orchestration.sdk import find_definition
result = find_definition("demo_failure").start(pool=pool, workflow_id=workflow_id).workflow_id
"""

STATES = """
from orchestration.models import Workflow
rows = Workflow.objects.filter(pool_id=pool).order_by("pk")
result = [[each.pk, each.status, each.error] for each in rows]
"""

STORE_MAPPED = """
from tests.services.mapped_runs import store_mapped_run
store_mapped_run(workflow_id, pool)
"""

ITEMS = """
from orchestration.models import Stage
items = Stage.objects.filter(workflow_id=workflow_id, item_of__isnull=False).order_by("item_index")
result = list(items.values_list("status", flat=True))
"""


def start(server: MahavishnuServer, pool: str, *ids: str) -> list[str]:
    """Start runs in a pool without workers."""
    return [server.services_driver.execute(START, pool=pool, workflow_id=f"{pool}_{id}") for id in ids]


def states(server: MahavishnuServer, pool: str) -> list[list[Any]]:
    found: list[list[Any]] = server.services_driver.execute(STATES, pool=pool)
    return found


async def test_cancel_and_retry_reach_the_subscribers(server: MahavishnuServer, unique: Callable[[str], str]) -> None:
    pool = unique("pool")
    (id,) = start(server, pool, "one")
    url = f"{server.http_url}/workflows/{id}"
    async with connect(server) as client:
        await client.subscribe(f"workflow:{id}")
        done = server.manage("cancel_workflow", id, "--reason", "Wrong folder")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"{id} cancelled: Wrong folder  {url}\n"
        assert (await client.event("workflow.cancelled"))["data"]["reason"] == "Wrong folder"
        done = server.manage("retry_workflow", id)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{id} runs again: 3 of 3 stages  {url}\n", "")
        assert (await client.event("workflow.retried"))["data"]["from_stage"] is None
    assert states(server, pool) == [[id, "running", ""]]


def test_workflow_that_is_refused_does_not_stop_the_others(
    server: MahavishnuServer, unique: Callable[[str], str]
) -> None:
    pool = unique("pool")
    one, two = start(server, pool, "one", "two")
    server.services.cancel_workflow(workflow_id=one, reason="")
    done = command(server, "cancel_workflow", one, "none", two, two)
    assert (done.returncode, done.stdout) == (1, f"{two} cancelled  {server.http_url}/workflows/{two}\n")
    assert done.stderr == (
        f"Workflow {one} has status cancelled; a finished workflow can only be retried.\n"
        "Workflow none not found.\n"
        "CommandError: Refused: 2 of 3 workflows.\n"
    )
    assert [status for _, status, _ in states(server, pool)] == ["cancelled", "cancelled"]


def test_closed_pipe_does_not_stop_the_others(server: MahavishnuServer, unique: Callable[[str], str]) -> None:
    pool = unique("pool")
    ids = start(server, pool, "one", "three", "two")
    assert run_with_closed_output(server, "cancel_workflow", *ids) == (0, "")
    assert [status for _, status, _ in states(server, pool)] == ["cancelled"] * 3


def test_unknown_id_is_suggested(server: MahavishnuServer, unique: Callable[[str], str]) -> None:
    pool = unique("pool")
    (id,) = start(server, pool, "nightly-report")
    for typed in (f"{pool}_nightly-reprot", f"{pool[2:]}_nightly"):
        done = command(server, "cancel_workflow", typed)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.splitlines()[0] == f"Workflow {typed} not found. Did you mean {id}?"


def test_retry_repeats_from_a_stage_and_suggests_its_name(
    server: MahavishnuServer, unique: Callable[[str], str]
) -> None:
    pool = unique("pool")
    (id,) = start(server, pool, "one")
    running = command(server, "retry_workflow", id)
    assert running.stderr.splitlines()[0] == (
        f"Workflow {id} has status running; only a finished workflow can be retried."
    )
    server.services.cancel_workflow(workflow_id=id, reason="")
    misspelled = command(server, "retry_workflow", id, "--from-stage", "read_missing_fiel")
    assert misspelled.returncode == 1
    assert misspelled.stderr.splitlines()[0] == (
        f"Stage {id}/read_missing_fiel not found. Did you mean read_missing_file?"
    )
    done = command(server, "retry_workflow", id, "--from-stage", "read_missing_file")
    assert (done.returncode, done.stderr) == (0, "")
    assert states(server, pool) == [[id, "running", ""]]


def test_retry_repeats_only_failed_items(server: MahavishnuServer, unique: Callable[[str], str]) -> None:
    pool = unique("pool")
    id = f"{pool}_one"
    server.services_driver.execute(STORE_MAPPED, workflow_id=id, pool=pool)
    alone = command(server, "retry_workflow", id, "--failed-items-only")
    assert (alone.returncode, alone.stdout) == (1, "")
    assert alone.stderr == ("CommandError: --failed-items-only needs --from-stage NAME: the stage with these items.\n")
    wrong = command(server, "retry_workflow", id, "--from-stage", "index", "--failed-items-only")
    assert wrong.stderr.splitlines()[0] == (
        f"Stage {id}/index has no items; failed_items_only is for a stage that runs once for each value."
    )
    done = command(server, "retry_workflow", id, "--from-stage", "embed", "--failed-items-only")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{id} runs again: 2 of 2 stages  {server.http_url}/workflows/{id}\n"
    assert server.services_driver.execute(ITEMS, workflow_id=id) == ["completed", "queued", "completed"]


def test_change_without_a_server_is_stored_and_reported(start_server: StartServer) -> None:
    server = start_server(started=False)
    (id,) = start(server, "none", "one")
    done = command(server, "cancel_workflow", id)
    assert (done.returncode, done.stdout.split()[1]) == (0, "cancelled")
    assert done.stderr == (
        f"No server is running at {server.http_url}/health (Connection refused). Check MAHAVISHNU_HOST and "
        "MAHAVISHNU_PORT. Events are stored; clients receive them when they resume.\n"
    )


def test_commands_suggest_pools_and_workers(server: MahavishnuServer, unique: Callable[[str], str]) -> None:
    pool = unique("pool")
    server.services.create_pool(pool_id=pool)
    server.services.register_worker(worker_id=f"{pool}-1", pool_id=pool)
    typed = pool.replace("pool", "pol")
    for name in ("drain_pool", "reopen_pool", "remove_pool"):
        done = command(server, name, typed)
        assert done.stderr == f"CommandError: Pool {typed} not found. Did you mean {pool}?\n"
    done = command(server, "drain_worker", f"{typed}-1")
    assert done.stderr == f"CommandError: Worker {typed}-1 not found. Did you mean {pool}-1?\n"
