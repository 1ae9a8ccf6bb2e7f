"""What the page of a workflow says first if the run failed: which stage, why, where in the code, and how to retry."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from django.db.models import F

from orchestration.admin.read_only import MAX_INLINE_ROWS
from orchestration.models import FINISHED_WORKFLOW_STATUSES, Stage, StageMap, StageStatus, WorkflowStatus

FROM_STAGE: Final = "from_stage"
"""The form field with the stage from which a run is repeated; empty for all that did not complete."""

FAILED_ITEMS_ONLY: Final = "failed_items_only"
"""The checkbox to repeat of that stage only the items that failed or had not ended."""

_FRAME: Final = re.compile(r'^  File "([^"\n]+)", line (\d+), in (\S+)', re.MULTILINE)
_OF_A_LIBRARY: Final = re.compile(r"^<|/(site-packages|dist-packages|lib/python[\d.]+)/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a run failed.

    Attributes:
        stage: The stage that failed last; None if none did, as in a run that timed out.
        error: The error of that stage, or else of the run.
        reason: The error of the run, if it says more than that of the stage.
        place: The line of code that raised it, such as `outcomes.py:30 in read_missing_file`; empty if it is unknown.
    """

    stage: Stage | None
    error: str
    reason: str = ""
    place: str = ""


def failure_of(workflow: Any) -> Failure | None:
    """Return why a run failed, timed out or was cancelled; None if it did not."""
    if workflow.status not in FINISHED_WORKFLOW_STATUSES or workflow.status == WorkflowStatus.COMPLETED:
        return None
    failed = workflow.stages.filter(status=StageStatus.FAILED).defer("plan", "result").order_by("-finished_at")
    stage = failed.first()
    if stage is None:
        return Failure(stage=None, error=workflow.error) if workflow.error else None
    attempt = stage.failed_attempts.order_by("-attempt").first()
    place = place_of(attempt.traceback) if attempt is not None else ""
    reason = "" if stage.error in workflow.error else workflow.error
    return Failure(stage=stage, error=stage.error or workflow.error, reason=reason, place=place)


def place_of(traceback: str) -> str:
    """Return the last line of a user's code in a traceback, or else its last line; empty if it has none."""
    frames = _FRAME.findall(traceback)
    own = [frame for frame in frames if not _OF_A_LIBRARY.search(frame[0])]
    if not frames:
        return ""
    file, line, function = (own or frames)[-1]
    return f"{Path(file).name}:{line} in {function}"


def may_retry(workflow: Any) -> bool:
    """Return whether a run can be repeated: it is finished, and the engine runs it."""
    return workflow.status in FINISHED_WORKFLOW_STATUSES and bool(workflow.runs_here)


def retry_choices(workflow: Any) -> list[tuple[str, str]]:
    """Return from where a run can be repeated: values of `FROM_STAGE`, and their labels."""
    if not may_retry(workflow):
        return []
    names = workflow.stages.filter(hosted=False).order_by("position").values_list("name", flat=True)
    named = [(name, f"from {name}") for name in names[:MAX_INLINE_ROWS]]
    return named if workflow.status == WorkflowStatus.COMPLETED else [("", "what did not complete"), *named]


def has_failed_items(workflow: Any) -> bool:
    """Return whether a run that can be repeated has items that failed or had not ended."""
    return may_retry(workflow) and StageMap.objects.filter(stage__workflow=workflow, completed__lt=F("total")).exists()
