"""What the database knows of streams of chunks: the attempt that writes them, how it ended, and the stored content."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import BinaryField
from django.db.models.functions import Substr

from orchestration.models import FINISHED_STAGE_STATUSES, Stage, StageStatus, StreamContent
from orchestration.services.installation import installation_id
from orchestration.text import storable

_COLUMNS = ("pk", "attempt", "started_at", "status", "streams")
_STORED_COLUMNS = ("stage_id", "name", "attempt", "content_type", "stored_bytes", "length", "sha256")


@dataclass(frozen=True, slots=True)
class StoredStream:
    """The stored content of a stream, without the bytes."""

    attempt: int
    content_type: str
    stored_bytes: int
    length: int
    sha256: str


@dataclass(frozen=True, slots=True)
class StageStreams:
    """What is stored about the streams of a stage.

    Attributes:
        stage_id: The primary key of the stage.
        attempt: Its newest attempt; 0 if none has started.
        started_at: When that attempt has started.
        status: The status of the stage.
        content_types: Of the streams that this attempt has opened, by name.
        stored: The streams that are stored, by name.
    """

    stage_id: int
    attempt: int
    started_at: datetime | None
    status: str
    content_types: dict[str, str]
    stored: dict[str, StoredStream] = field(default_factory=dict)

    @property
    def is_finished(self) -> bool:
        """Whether no further chunk is to come."""
        return self.status in FINISHED_STAGE_STATUSES

    @property
    def may_be_stored(self) -> bool:
        """Whether an attempt may have stored its streams: it has ended, or an earlier one has."""
        return self.attempt > 1 or self.status != StageStatus.RUNNING

    def attempt_of(self, name: str) -> int:
        """Return the attempt that wrote a stream: the newest, unless one that waited has stored it."""
        stored = self.stored.get(name)
        return self.attempt if stored is None or name in self.content_types else stored.attempt

    def stored_of(self, name: str) -> StoredStream | None:
        """Return the stored content of a stream; None if the attempt that writes it has not stored it."""
        stored = self.stored.get(name)
        return stored if stored is not None and stored.attempt == self.attempt_of(name) else None


def find_stage_streams(workflow_id: str, stage_name: str) -> tuple[StageStreams, str] | None:
    """Return the streams of a stage and the id of the installation; None if there is no such stage."""
    stages = Stage.objects.filter(workflow_id=workflow_id, name=storable(stage_name))
    stage_id = stages.values_list("pk", flat=True).first()
    if stage_id is None or not (found := read_stage_streams([stage_id])):
        return None
    return found[stage_id], installation_id()


def read_stage_streams(stage_ids: Collection[int]) -> dict[int, StageStreams]:
    """Return the streams of stages, by primary key. Stages that no longer exist are absent."""
    # The stages first: what is stored belongs to an attempt that had ended before.
    found = {row[0]: _stage_streams(*row) for row in Stage.objects.filter(pk__in=stage_ids).values_list(*_COLUMNS)}
    # Most of the stages that are looked at twice a second run their first attempt.
    if stored_by := [stage_id for stage_id, each in found.items() if each.may_be_stored]:
        rows = StreamContent.objects.filter(stage_id__in=stored_by).values_list(*_STORED_COLUMNS)
        for stage_id, name, *stored in rows:
            found[stage_id].stored[name] = StoredStream(*stored)
    return found


def read_stored_bytes(stage_id: int, name: str, attempt: int, offset: int, max_bytes: int) -> bytes | None:
    """Return a part of a stored stream; None if it is no longer stored."""
    part = (
        StreamContent.objects.filter(stage_id=stage_id, name=name, attempt=attempt)
        .annotate(part=Substr("content", offset + 1, max_bytes, output_field=BinaryField()))
        .values_list("part", flat=True)
        .first()
    )
    return None if part is None else bytes(part)


def _stage_streams(
    stage_id: int, attempt: int, started_at: datetime | None, status: str, streams: list[dict[str, Any]] | None
) -> StageStreams:
    types = {each["name"]: each["content_type"] for each in streams or [] if each["attempt"] == attempt}
    return StageStreams(stage_id, attempt, started_at, status, types)
