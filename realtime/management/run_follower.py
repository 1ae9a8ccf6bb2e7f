"""Follow one run from a command: read its events from the log, in order, until the run has finished."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from orchestration.models import FINISHED_WORKFLOW_STATUSES, Workflow
from realtime.eventlog.position import current_position
from realtime.eventlog.reader import PositionOutOfRange, read_events
from realtime.protocol.channels import channel_of
from realtime.protocol.payload import decode_object

_EVENTS_PER_QUERY: Final = 500
_BYTES_PER_QUERY: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class FollowedEvent:
    """An event of the run: its name and its data."""

    name: str
    data: dict[str, Any]


class RunFollower:
    """Reads the events of a run from the log. The log has all of them, even without a running server.

    Events that are pruned before they are read are skipped. The workflow's row shows when the run has finished.

    Attributes:
        workflow: The workflow's row, as of the last poll.
    """

    def __init__(self, workflow_id: str) -> None:
        self._workflow_id = workflow_id
        self._room = channel_of("workflow", workflow_id)
        self._epoch = ""
        self._read_through = 0
        self.workflow = self._load_workflow()

    @property
    def has_finished(self) -> bool:
        """Whether the run had finished at the last poll."""
        return self.workflow.status in FINISHED_WORKFLOW_STATUSES

    def poll(self) -> Iterator[FollowedEvent]:
        """Yield the events since the last poll. If the run has finished, these are the last ones."""
        # Load the status first: events committed before the status changed are then already in the log.
        self.workflow = self._load_workflow()
        position = current_position()
        if position.epoch != self._epoch:
            self._epoch, self._read_through = position.epoch, position.trimmed_seq
        while True:
            try:
                batch = read_events(
                    self._room,
                    epoch=self._epoch,
                    after=self._read_through,
                    through=position.seq,
                    limit=_EVENTS_PER_QUERY,
                    max_bytes=_BYTES_PER_QUERY,
                )
            except PositionOutOfRange as error:
                if error.trimmed_seq <= self._read_through:
                    return  # The epoch has changed; the next poll starts from the new one.
                self._read_through = error.trimmed_seq
                continue
            for event in batch.events:
                self._read_through = event.seq
                yield FollowedEvent(event.name, decode_object(event.data))
            if batch.is_last:
                self._read_through = max(self._read_through, position.seq)
                return

    def _load_workflow(self) -> Workflow:
        return Workflow.objects.get(pk=self._workflow_id)
