"""What the pages show in tests: a pool, workflows of every status, one with a log, one of an agent, one that asks."""

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

STORE_AGENT: Final = """
from datetime import timedelta
from django.utils import timezone
from orchestration import services
from orchestration.models import Stage, StageMap, StreamContent, Wait, Workflow
services.create_pool(pool_id="local")
services.create_workflow(workflow_id="agent", name="agent", adapter="python", prompt="", pool_id="local",
                         stages=["answer", "embed", "approve", "report"])
services.start_workflow(workflow_id="agent")
services.start_stage(workflow_id="agent", stage_name="answer", worker_id=None)
services.complete_stage(workflow_id="agent", stage_name="answer", result={"output": 1})
services.skip_stage(workflow_id="agent", stage_name="report")
at = timezone.now()
stages = {stage.name: stage for stage in Stage.objects.filter(workflow="agent")}
stream = [{"name": "text", "attempt": 1, "content_type": "text"}]
Stage.objects.filter(pk=stages["answer"].pk).update(streams=stream, attempt=1)
text = b"To be continued " * 400
StreamContent.objects.create(stage=stages["answer"], name="text", attempt=1, content_type="text", content=text,
                             stored_bytes=len(text), length=len(text) + 10, sha256="0" * 64)
waiting = Stage.objects.filter(pk__in=[stages["embed"].pk, stages["approve"].pk])
waiting.update(status="waiting", attempt=1, started_at=at)
StageMap.objects.create(stage=stages["embed"], total=900, stored=60, completed=40, failed=2, published_completed=40,
                        published_failed=2, published_running=3)
Stage.objects.bulk_create(
    Stage(workflow_id="agent", name=f"embed[{n}]", position=n, item_of=stages["embed"], item_index=n,
          status="failed" if n == 3 else "completed", error="ValueError: No" if n == 3 else "", attempt=1,
          started_at=at, finished_at=at, duration_ms=5, worker_id="local-1") for n in range(60))
schema = {"type": "object", "required": ["approved"], "properties": {
    "approved": {"type": "boolean", "description": "Whether it goes out."},
    "reason": {"enum": ["urgent", "planned"]}, "count": {"type": "integer", "minimum": 1},
    "files": {"type": "array", "items": {"type": "string"}}, "comment": {"type": "string", "default": ""}}}
Wait.objects.create(workflow_id="agent", stage=stages["approve"], name="approve", kind="ask", title="Deploy app:7?",
                    schema=schema, recipients="group:ops", opened_at=at, expires_at=at + timedelta(hours=1))
for number in range(3):
    services.create_workflow(workflow_id=f"child-{number}", name="score", adapter="python", prompt="", stages=["one"])
Workflow.objects.filter(name="score").update(parent="agent", root="agent", parent_stage=stages["answer"].pk)
Workflow.objects.filter(pk="agent").update(has_children=True)
"""

STORE_QUESTION: Final = """
from datetime import timedelta
from django.utils import timezone
from orchestration import services
from orchestration.models import Stage, Wait
services.create_workflow(workflow_id="asking", name="release", adapter="python", prompt="", stages=["approve"])
services.start_workflow(workflow_id="asking")
stages = Stage.objects.filter(workflow="asking", name="approve")
at = timezone.now()
stages.update(status="waiting", attempt=1, started_at=at)
schema = {"type": "object", "required": ["approved"], "properties": {"approved": {"type": "boolean"}}}
Wait.objects.create(workflow_id="asking", stage=stages.get(), name="approve", kind="ask", title="Deploy app:7?",
                    schema=schema, recipients="group:ops", opened_at=at, expires_at=at + timedelta(hours=1))
"""
