"""Following one run from a command line: what was announced about it, in order, until it has ended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from orchestration.models import FINISHED_WORKFLOW_STATUSES, Workflow
from realtime.eventlog.position import current_position
from realtime.eventlog.reader import PositionOutOfRange, read_events
from realtime.protocol.channels import channel_of
from realtime.protocol.payload import decode_object

_EVENTS_PER_LOOK: Final = 500


@dataclass(frozen=True, slots=True)
class FollowedEvent:
    """An event of the run: its name and its data."""

    name: str
    data: dict[str, Any]


class Follower:
    """Reads what is announced about a run from the log, which has all of it, whether or not a server runs.

    Events that are pruned before they are read are passed over: the run's own row says when it has ended.
    """

    def __init__(self, workflow_id: str) -> None:
        self._workflow_id = workflow_id
        self._room = channel_of("workflow", workflow_id)
        self._epoch = ""
        self._read_through = 0
        self.workflow = self._look()

    @property
    def has_ended(self) -> bool:
        """Whether the run had ended when it was last looked at."""
        return self.workflow.status in FINISHED_WORKFLOW_STATUSES

    def news(self) -> Iterator[FollowedEvent]:
        """What was announced since the last look. If the run has ended, that is the rest."""
        # The status first: what was announced before it changed is then in the log.
        self.workflow = self._look()
        position = current_position()
        if position.epoch != self._epoch:
            self._epoch, self._read_through = position.epoch, position.trimmed_seq
        while True:
            try:
                events = read_events(
                    self._room,
                    epoch=self._epoch,
                    after=self._read_through,
                    through=position.seq,
                    most=_EVENTS_PER_LOOK,
                )
            except PositionOutOfRange as gone:
                if gone.trimmed_seq <= self._read_through:
                    return  # The log is another one by now; the next look begins with that.
                self._read_through = gone.trimmed_seq
                continue
            for event in events:
                self._read_through = event.seq
                yield FollowedEvent(event.name, decode_object(event.data))
            if len(events) < _EVENTS_PER_LOOK:
                self._read_through = max(self._read_through, position.seq)
                return

    def _look(self) -> Workflow:
        return Workflow.objects.get(pk=self._workflow_id)
