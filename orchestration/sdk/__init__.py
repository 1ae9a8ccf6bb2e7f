"""The API for authors of workflows and adapters: definitions, runs, the context of a stage, adapter types."""

from __future__ import annotations

from orchestration.plan import InvalidDefinition, Plan, Retry, StagePlan
from orchestration.sdk.adapter import (
    Adapter,
    ChecksCode,
    MissingDependency,
    MissingRequirement,
    UnknownAdapter,
    adapter_of,
    find_adapter,
)
from orchestration.sdk.context import Cancelled, Context, HandOver
from orchestration.sdk.next_steps import Done, Next
from orchestration.sdk.outcome import error_for_clients
from orchestration.sdk.parameters import InvalidParameter
from orchestration.sdk.registry import (
    BrokenModule,
    Definition,
    UnknownWorkflow,
    broken_modules,
    definitions,
    find_definition,
)
from orchestration.sdk.run import Run, RunFailed, RunTimeout, WaitInTransaction
from orchestration.sdk.secret import Secret
from orchestration.sdk.stage import Parallel, StageDefinition, Steps, each, parallel, plan_stages, stage, when
from orchestration.sdk.stage_errors import StageFailed, StageSkipped
from orchestration.sdk.stage_waits import AnswerTimeout, SignalTimeout, Suspended, WaitTimeout
from orchestration.sdk.steps import StaleAttempt, StepRefused
from orchestration.sdk.stream import Stream
from orchestration.sdk.sub_runs import WaitForRuns, run_workflow
from orchestration.sdk.waits import ask, sleep, wait_for_signal
from orchestration.sdk.workflow import DEFAULT_POOL, WorkflowDefinition, workflow
from orchestration.services import KeyConflict

__all__ = [
    "DEFAULT_POOL",
    "Adapter",
    "AnswerTimeout",
    "BrokenModule",
    "Cancelled",
    "ChecksCode",
    "Context",
    "Definition",
    "Done",
    "HandOver",
    "InvalidDefinition",
    "InvalidParameter",
    "KeyConflict",
    "MissingDependency",
    "MissingRequirement",
    "Next",
    "Parallel",
    "Plan",
    "Retry",
    "Run",
    "RunFailed",
    "RunTimeout",
    "Secret",
    "SignalTimeout",
    "StageDefinition",
    "StageFailed",
    "StagePlan",
    "StageSkipped",
    "StaleAttempt",
    "StepRefused",
    "Steps",
    "Stream",
    "Suspended",
    "UnknownAdapter",
    "UnknownWorkflow",
    "WaitForRuns",
    "WaitInTransaction",
    "WaitTimeout",
    "WorkflowDefinition",
    "adapter_of",
    "ask",
    "broken_modules",
    "definitions",
    "each",
    "error_for_clients",
    "find_adapter",
    "find_definition",
    "parallel",
    "plan_stages",
    "run_workflow",
    "sleep",
    "stage",
    "wait_for_signal",
    "when",
    "workflow",
]
