"""Read the whole result of one stage, for `get_stage_result`. Events and lists have a part of it, or none."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import TextField
from django.db.models.functions import Cast, Length

from orchestration.identifiers import is_identifier
from orchestration.models import Stage, Workflow
from realtime.database import consistent_read
from realtime.eventlog.position import Position, current_position
from realtime.limits import Limits
from realtime.protocol.payload import encode_data, size_in_bytes

_NULL_BYTES = 4


@dataclass(frozen=True, slots=True)
class StageResult:
    """The result of a stage at a position of the log.

    Attributes:
        position: Position of the log. The result has the changes of the events up to here, and of no later one.
        status: The status of the stage; empty if the workflow has no such stage.
        attempt: Its newest attempt; 0 if none has started.
        result: JSON text; `null` if there is none, or if it is too large.
        size_bytes: The size of the result, of one that is too large about that.
        is_too_large: Whether the result takes more than one answer may.
    """

    position: Position
    status: str = ""
    attempt: int = 0
    result: str = "null"
    size_bytes: int = _NULL_BYTES
    is_too_large: bool = False

    @property
    def cost_bytes(self) -> int:
        """What the budget of a connection is charged for."""
        return size_in_bytes(self.result)


@dataclass(frozen=True, slots=True)
class StageResultQuery:
    """The result of the stage with a name, which may be an item such as `embed[3]`."""

    workflow_id: str
    stage_name: str

    @property
    def is_first(self) -> bool:
        return True

    def read(self, limits: Limits) -> StageResult | None:
        """Return the result; None if the workflow does not exist."""
        if not is_identifier(self.workflow_id):
            return None
        with consistent_read():
            return _read(self, current_position(), max_bytes=limits.max_replay_burst_bytes)


def _read(query: StageResultQuery, position: Position, *, max_bytes: int) -> StageResult | None:
    stages = Stage.objects.filter(workflow_id=query.workflow_id, name=query.stage_name)
    # The text of one that is too large is not read: its length is that of the stored text, in characters.
    stored = Length(Cast("result", TextField()))
    row = stages.annotate(stored=stored).values_list("pk", "status", "attempt", "stored").first()
    if row is None:
        return StageResult(position) if Workflow.objects.filter(pk=query.workflow_id).exists() else None
    stage_id, status, attempt, length = row
    size_bytes: int = length or 0
    if not size_bytes:
        return StageResult(position, status, attempt)
    text = "null"
    if size_bytes <= max_bytes:
        text = encode_data(Stage.objects.values_list("result", flat=True).get(pk=stage_id))
        size_bytes = size_in_bytes(text)
    if size_bytes > max_bytes:
        return StageResult(position, status, attempt, size_bytes=size_bytes, is_too_large=True)
    return StageResult(position, status, attempt, text, size_bytes)
