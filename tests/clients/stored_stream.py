"""A completed run whose stage `answer` has written the stream `reply`."""

from __future__ import annotations

from typing import Final

STORE_STREAM: Final = """
import hashlib
from django.utils import timezone
from orchestration import services
from orchestration.models import Stage
from orchestration.services import WrittenStream
from orchestration.services.streams import store_streams

services.create_workflow(workflow_id=workflow_id, adapter="python", prompt="", stages=["answer"])
services.start_workflow(workflow_id=workflow_id)
services.start_stage(workflow_id=workflow_id, stage_name="answer")
services.complete_stage(workflow_id=workflow_id, stage_name="answer")
content = "Hello, wörld".encode()
written = WrittenStream(name="reply", content_type="text", content=content, length=len(content),
                        sha256=hashlib.sha256(content).hexdigest())
store_streams(Stage.objects.get(workflow=workflow_id), [written], at=timezone.now())
"""
