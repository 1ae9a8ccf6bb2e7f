"""What the pages show in tests: a pool with workers, and workflows of every status, one with a log."""

from __future__ import annotations

from typing import Final

STORE_EVERYTHING: Final = """
from django.db import transaction
from datetime import datetime, timezone
from orchestration import services
from realtime.events.receivers import announce_as_given

services.create_pool(pool_id="local")
services.create_pool(pool_id="spare")
for number in range(3):
    services.register_worker(worker_id=f"local-{number}", pool_id="local")
services.change_worker_status(worker_id="local-2", status="offline")
services.drain_pool(pool_id="spare")

def workflow(workflow_id, stages=("prepare", "measure", "write"), **fields):
    services.create_workflow(workflow_id=workflow_id, name="report", adapter="python", prompt="Measure the files",
                             stages=list(stages), pool_id="local", **fields)
    return workflow_id

workflow("pending")
services.start_workflow(workflow_id=workflow("running"))
services.start_stage(workflow_id="running", stage_name="prepare", worker_id="local-0")
with transaction.atomic():
    for number in range(30):
        announce_as_given("workflow.stage_log", rooms=("workflow:running",), timestamp=datetime.now(timezone.utc),
                          data={"workflow_id": "running", "stage_name": "prepare", "message": f"line {number}"})
services.complete_stage(workflow_id="running", stage_name="prepare", result={"files": 3})
services.queue_stage(workflow_id="running", stage_name="measure")
services.start_workflow(workflow_id=workflow("failed"))
services.start_stage(workflow_id="failed", stage_name="prepare", worker_id="local-1")
services.complete_stage(workflow_id="failed", stage_name="prepare")
services.start_stage(workflow_id="failed", stage_name="measure", worker_id="local-1")
services.fail_stage(workflow_id="failed", stage_name="measure", error="FileNotFoundError: No such file: 'x'\\n  in f")
services.fail_workflow(workflow_id="failed", error="The stage measure failed: FileNotFoundError: No such file: 'x'")
services.start_workflow(workflow_id=workflow("completed"))
services.complete_workflow(workflow_id="completed", result={"final_output": {"lines": 120}})
services.start_workflow(workflow_id=workflow("cancelled"))
services.cancel_workflow(workflow_id="cancelled", reason="Started by mistake")
workflow("w" * 128, stages=["s" * 100])
"""
