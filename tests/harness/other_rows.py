"""Rows in the shared servers, as other tests leave them: a test that expects an empty list fails in every order."""

from __future__ import annotations

from typing import Final

from tests.harness.server import MahavishnuServer

_STORE_OTHER_ROWS: Final = """
from orchestration import services

services.create_pool(pool_id="other")
services.register_worker(worker_id="other-0", pool_id="other")
endings = {
    "running": lambda workflow_id: None,
    "completed": lambda workflow_id: services.complete_workflow(workflow_id=workflow_id, result={}),
    "failed": lambda workflow_id: services.fail_workflow(workflow_id=workflow_id, error="Failed in another test"),
    "cancelled": lambda workflow_id: services.cancel_workflow(workflow_id=workflow_id),
    "timeout": lambda workflow_id: services.time_out_workflow(workflow_id=workflow_id),
}

def create(status):
    workflow_id = f"other-{status}"
    services.create_workflow(workflow_id=workflow_id, name="other", adapter="python", prompt="", stages=["one"],
                             pool_id="other")
    return workflow_id

create("pending")
for status, end in endings.items():
    workflow_id = create(status)
    services.start_workflow(workflow_id=workflow_id)
    services.queue_stage(workflow_id=workflow_id, stage_name="one")
    end(workflow_id)
"""


def store_other_rows(server: MahavishnuServer) -> MahavishnuServer:
    """Store a pool, a worker and a workflow of each status, and return the server."""
    server.services_driver.execute(_STORE_OTHER_ROWS)
    return server
