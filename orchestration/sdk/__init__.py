"""How a workflow is defined in Python: `@stage`, `@workflow`, `parallel` and `Retry`, in an app's `workflows.py`."""

from __future__ import annotations

from orchestration.plan import InvalidDefinition, Retry
from orchestration.sdk.registry import UnknownWorkflow, definitions, find_definition
from orchestration.sdk.run import Run, RunFailed, RunTimeout
from orchestration.sdk.stage import Parallel, StageDefinition, parallel, stage
from orchestration.sdk.workflow import WorkflowDefinition, workflow

__all__ = [
    "InvalidDefinition",
    "Parallel",
    "Retry",
    "Run",
    "RunFailed",
    "RunTimeout",
    "StageDefinition",
    "UnknownWorkflow",
    "WorkflowDefinition",
    "definitions",
    "find_definition",
    "parallel",
    "stage",
    "workflow",
]
