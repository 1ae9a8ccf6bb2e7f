"""Read the state of one workflow, for `get_workflow`."""

from __future__ import annotations

from dataclasses import dataclass

from orchestration.identifiers import is_identifier
from realtime.limits import Limits
from realtime.protocol.channels import channel_of
from realtime.queries.resume import ResumePoint, find_resume_point


@dataclass(frozen=True, slots=True)
class WorkflowStateQuery:
    """The state of one workflow, as in a snapshot of its channel."""

    workflow_id: str

    @property
    def is_first(self) -> bool:
        return True

    def read(self, limits: Limits) -> ResumePoint | None:
        """Return the state and its position; None if the workflow does not exist."""
        if not is_identifier(self.workflow_id):
            return None
        channel = channel_of("workflow", self.workflow_id)
        found = find_resume_point(channel, since=None, epoch=None, with_snapshot=True, limits=limits)
        return found if found.snapshot != "null" else None
