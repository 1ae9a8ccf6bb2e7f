"""Follow one run from a command: read its events from the log, in order, until the run has finished."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from orchestration.models import FINISHED_WORKFLOW_STATUSES, Workflow, WorkflowStatus
from realtime.management.log_follower import LogFollower
from realtime.protocol.channels import channel_of
from realtime.protocol.payload import decode_object

EXIT_CODES: Final = {
    WorkflowStatus.COMPLETED: 0,
    WorkflowStatus.FAILED: 3,
    WorkflowStatus.CANCELLED: 4,
    WorkflowStatus.TIMEOUT: 5,
}
"""Exit codes of commands that follow a run, by the status with which it has finished."""


@dataclass(frozen=True, slots=True)
class FollowedEvent:
    """An event of the run: its name and its data."""

    name: str
    data: dict[str, Any]


class RunFollower:
    """Reads the events of a run from the log.

    Events that are pruned before they are read are skipped. The workflow's row shows when the run has finished.

    Attributes:
        workflow: The workflow's row, as of the last poll.
    """

    def __init__(self, workflow_id: str) -> None:
        self._workflow_id = workflow_id
        channel = channel_of("workflow", workflow_id)
        self._log = LogFollower([channel], begin_after=lambda position: position.trimmed_seq)
        self.workflow = self._load_workflow()

    @property
    def has_finished(self) -> bool:
        """Whether the run had finished at the last poll."""
        return self.workflow.status in FINISHED_WORKFLOW_STATUSES

    def poll(self) -> Iterator[FollowedEvent]:
        """Yield the events since the last poll. If the run has finished, these are the last ones."""
        # Load the status first: events committed before the status changed are then already in the log.
        self.workflow = self._load_workflow()
        for _, event in self._log.poll():
            yield FollowedEvent(event.name, decode_object(event.data))

    def _load_workflow(self) -> Workflow:
        return Workflow.objects.get(pk=self._workflow_id)
