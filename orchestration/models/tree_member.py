"""The columns of a workflow that place it in a tree of sub-runs, and what its end means for the workflow above it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar, Final, Protocol

from django.db import models

from orchestration.db.clock import database_now
from orchestration.models.pool_counters import batched_counters
from orchestration.models.statuses import FINISHED_WORKFLOW_STATUSES, WorkflowStatus
from orchestration.models.tracked import TrackedModel, TrackedState

_ENDS_CHILDREN: Final = [status for status in FINISHED_WORKFLOW_STATUSES if status != WorkflowStatus.COMPLETED.value]
"""The statuses that go down to the sub-runs of a workflow."""


class ParentWaker(Protocol):
    """Ends the wait of the stage that waits for a sub-run, which has finished, if it was the last one."""

    def __call__(self, workflow: Any, *, at: datetime) -> None: ...


class TreeMember(TrackedModel):
    """A workflow that may be a sub-run, and may have sub-runs."""

    wake_parent: ClassVar[ParentWaker]
    """Set by `orchestration.apps`: the implementation is a service."""

    # What is removed stays named in the next three columns: the rows may not exist.
    parent_stage = models.ForeignKey(
        "orchestration.Stage",
        on_delete=models.DO_NOTHING,
        null=True,
        blank=True,
        editable=False,
        related_name="+",
        db_constraint=False,
        help_text="The stage that has started it, if it is a sub-run.",
    )
    parent = models.ForeignKey(
        "self",
        on_delete=models.DO_NOTHING,
        null=True,
        blank=True,
        editable=False,
        related_name="children",
        db_index=False,
        db_constraint=False,
        help_text="The workflow of that stage.",
    )
    root = models.ForeignKey(
        "self",
        on_delete=models.DO_NOTHING,
        null=True,
        blank=True,
        editable=False,
        related_name="+",
        db_index=False,
        db_constraint=False,
        help_text="The workflow at the top of its tree, if it is a sub-run.",
    )
    depth = models.PositiveSmallIntegerField(
        default=0, db_default=0, editable=False, help_text="How many workflows are above it in its tree."
    )
    detached = models.BooleanField(
        default=False, db_default=False, editable=False, help_text="Whether it continues when its parent has ended."
    )
    has_children = models.BooleanField(default=False, db_default=False, editable=False)
    children_due_at = models.DateTimeField(
        null=True, editable=False, help_text="Since when its sub-runs are to be cancelled (database clock)."
    )
    status: Any

    class Meta:
        abstract = True

    def derive_children_due(self) -> None:
        """Set `children_due_at` if the status goes down to the sub-runs."""
        leaves_children = self.has_children and self.status in _ENDS_CHILDREN
        self.children_due_at = (self.children_due_at or database_now()) if leaves_children else None

    def on_change(self, *, before: TrackedState | None, after: TrackedState, at: datetime, using: str) -> None:
        ends = before is not None and before.status != after.status and after.status in FINISHED_WORKFLOW_STATUSES
        if self.parent_stage_id is None or not ends:
            self.send_changes(before, after, at=at, using=using)
            return
        with batched_counters(at=at, using=using):  # Pools are locked after the parent.
            self.send_changes(before, after, at=at, using=using)
            type(self).wake_parent(self, at=at)

    def send_changes(self, before: TrackedState | None, after: TrackedState, *, at: datetime, using: str) -> None:
        """Update the stages, and send the signals of each difference."""
        raise NotImplementedError
