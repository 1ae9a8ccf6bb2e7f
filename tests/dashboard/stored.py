"""What the pages show in tests: a pool with workers, and workflows of every status, one with a log."""

from __future__ import annotations

from typing import Final

STORE_EVERYTHING: Final = """
from django.db import transaction
from django.utils import timezone
from orchestration import services
from orchestration.models import Stage, Workflow
from orchestration.sdk.launch import launch_by_name
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
        announce_as_given("workflow.stage_log", rooms=("workflow:running",), timestamp=timezone.now(),
                          data={"workflow_id": "running", "stage_name": "prepare", "message": f"line {number}"})
services.complete_stage(workflow_id="running", stage_name="prepare", result={"files": 3})
services.queue_stage(workflow_id="running", stage_name="measure")
launch_by_name("demo_failure", prompt="Measure the files", params={}, workflow_id="failed", pool="local")
error, at = "FileNotFoundError: No such file: 'x'\\n  in f", timezone.now()
stages = Stage.objects.filter(workflow="failed")
stages.filter(name="prepare").update(status="completed", attempt=1, started_at=at, finished_at=at, duration_ms=2)
stages.filter(name="read_missing_file").update(
    status="failed", error=error, attempt=1, started_at=at, finished_at=at, duration_ms=11, worker_id="local-1")
stages.filter(name="tidy_up").update(status="cancelled", finished_at=at)
Workflow.objects.filter(pk="failed").update(
    status="failed", error=f"The stage read_missing_file failed: {error}", stages_completed=1, finished_at=at)
services.start_workflow(workflow_id=workflow("completed"))
services.complete_workflow(workflow_id="completed", result={"final_output": {"lines": 120}})
services.start_workflow(workflow_id=workflow("cancelled"))
services.cancel_workflow(workflow_id="cancelled", reason="Started by mistake")
workflow("w" * 128, stages=["s" * 100])
"""
