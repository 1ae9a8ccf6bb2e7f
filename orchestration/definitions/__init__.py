"""How a workflow is defined in Python: `@stage`, `@workflow`, `parallel` and `Retry`, in an app's `workflows.py`."""

from __future__ import annotations

from orchestration.definitions.registry import UnknownWorkflow, definitions, find_definition
from orchestration.definitions.run import Run, RunFailed, RunTimeout
from orchestration.definitions.specification import InvalidDefinition, Retry
from orchestration.definitions.stages import Parallel, StageDefinition, parallel, stage
from orchestration.definitions.workflows import WorkflowDefinition, workflow

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
