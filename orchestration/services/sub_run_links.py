"""Link a new run to the stage that starts it. The stage's attempt must be the running one, as for steps."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from django.db.models import F

from orchestration.limits import engine_limits
from orchestration.models import ChildRuns, Workflow
from orchestration.services.errors import ServiceError
from orchestration.services.row_locks import AttemptEnded, lock_running, running_attempt
from orchestration.services.start_keys import stored_sub_run_key


@dataclass(frozen=True, kw_only=True, slots=True)
class ParentAttempt:
    """The attempt at a stage that starts a sub-run.

    Attributes:
        stage_id: The stage.
        attempt: The number of the attempt.
        name: The name of the sub-run in the stage: each attempt finds the sub-run of this name.
        detached: Whether the sub-run continues if the run of the stage is cancelled, fails or times out.
    """

    stage_id: int
    attempt: int
    name: str
    detached: bool = False


class TooDeep(ServiceError):
    """A sub-run would have more runs above it than it may have."""

    def __init__(self, max_depth: int) -> None:
        self.max_depth = max_depth
        super().__init__(max_depth)

    def __str__(self) -> str:
        return f"A sub-run may have {self.max_depth} runs above it at most (MAHAVISHNU_MAX_SUB_RUN_DEPTH)."


def link_to_parent(workflow: Workflow, parent: ParentAttempt) -> None:
    """Set the columns of a new run that name its parent, and its key.

    Raises:
        AttemptEnded, TooDeep
    """
    stage = running_attempt(parent.stage_id, parent.attempt).select_related("workflow").first()
    if stage is None:
        raise AttemptEnded(parent.stage_id, parent.attempt)
    above = stage.workflow
    max_depth = engine_limits().max_sub_run_depth
    if above.depth >= max_depth:
        raise TooDeep(max_depth)
    workflow.parent_stage_id = parent.stage_id
    workflow.parent_id = above.pk
    workflow.root_id = above.root_id or above.pk
    workflow.depth = above.depth + 1
    workflow.detached = parent.detached
    # The generation changes only while the attempt is not the running one.
    generation = ChildRuns.objects.filter(pk=parent.stage_id).values_list("generation", flat=True).first() or 0
    workflow.key = stored_sub_run_key(workflow.name, parent.stage_id, generation, parent.name)


def lock_parent(parent: ParentAttempt) -> None:
    """Lock the stage that starts a sub-run, with its run, and note there that it has one. Needs a transaction.

    Raises:
        AttemptEnded
    """
    stage = lock_running(parent.stage_id, parent.attempt)
    if stage is None:
        raise AttemptEnded(parent.stage_id, parent.attempt)
    ChildRuns.objects.get_or_create(stage=stage)
    Workflow.objects.filter(pk=stage.workflow_id, has_children=False).update(has_children=True)


def forget_sub_runs(stage_ids: Collection[int]) -> None:
    """Let these stages, which begin anew, start other sub-runs instead of finding those that they have started."""
    ChildRuns.objects.filter(stage__in=stage_ids).update(generation=F("generation") + 1)
