"""`manage.py serve` restarts a part that dies. The other parts keep running, and use it again."""

from __future__ import annotations

import asyncio
import os
import signal

from tests.harness.client import connect
from tests.harness.serve import START_TIMEOUT_SECONDS, Serve, StartServe
from tests.harness.waiting import eventually

PARTS = ("valkey", "web", "worker", "scheduler")

RUN = """
from orchestration.sdk import find_definition
result = find_definition("demo_retry").start("", failures=0).workflow_id
"""


async def run_a_workflow(serve: Serve) -> None:
    """Run a workflow on the worker, and receive its events from the server."""
    async with connect(serve) as client:
        await client.subscribe("global")
        with serve.driver() as driver:
            workflow_id = await asyncio.to_thread(driver.execute, RUN)
        completed = await client.event("workflow.completed", within_seconds=START_TIMEOUT_SECONDS)
        assert completed["data"]["workflow_id"] == workflow_id


async def kill(serve: Serve, *names: str) -> None:
    """Kill these parts at once, and wait until each has a successor."""
    pids = {name: serve.pids(name) for name in names}
    for name in names:
        os.kill(pids[name][-1], signal.SIGKILL)
    await eventually(
        lambda: all(len(serve.pids(name)) == len(pids[name]) + 1 for name in names),
        what="the successors",
    )


async def test_serve_restarts_every_part_that_is_killed_and_leaves_no_process(serve: StartServe) -> None:
    run = serve()
    await asyncio.to_thread(run.wait_healthy)
    await kill(run, "valkey")
    # The same worker and server use the new Valkey.
    await run_a_workflow(run)
    await kill(run, "web", "worker", "scheduler")
    await asyncio.to_thread(run.wait_healthy)
    await run_a_workflow(run)
    assert [len(run.pids(name)) for name in PARTS] == [2, 2, 2, 2]
    assert run.output().count("was killed by SIGKILL; restarting it in") == 4
    run.signal_group(signal.SIGINT)
    run.signal_group(signal.SIGINT)
    await asyncio.to_thread(run.wait_ended)
    assert run.main.returncode == 0
