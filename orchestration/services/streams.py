"""Record the streams of a running stage: that one was opened, and its content at the end of the attempt."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction

from orchestration import signals
from orchestration.models import Stage, StreamContent
from orchestration.services import validation
from orchestration.services.row_locks import running_attempt
from orchestration.stream_keys import STREAM_NAME_EXPECTED, StreamContentType, is_stream_name


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenStream:
    """What an attempt has written into one stream.

    Attributes:
        name: The name of the stream.
        content_type: Whether it is text or bytes.
        content: Its beginning, as much as is stored.
        length: Bytes that were written.
        sha256: Of all of them, in hexadecimal.
    """

    name: str
    content_type: StreamContentType
    content: bytes
    length: int
    sha256: str


def open_stream(
    stage_id: int, attempt: int, *, name: str, content_type: StreamContentType, at: datetime | None = None
) -> bool:
    """Announce a stream of an attempt. Return False if the attempt no longer runs.

    Raises:
        InvalidArgument
    """
    at = validation.timestamp(at)
    if not is_stream_name(name):
        raise validation.InvalidArgument("name", name, STREAM_NAME_EXPECTED)
    with transaction.atomic():
        stage = running_attempt(stage_id, attempt).select_for_update(no_key=True).first()
        if stage is None:
            return False
        _announce(stage, name, content_type, at=at)
    return True


def store_streams(stage: Stage, streams: Iterable[WrittenStream], *, at: datetime) -> None:
    """Store the streams of an attempt that completes or begins to wait, in its transaction. The stage is locked.

    A stream that could not be announced, because the database was unavailable, is announced now.
    """
    for stream in streams:
        _announce(stage, stream.name, stream.content_type, at=at)
        values = {
            "attempt": stage.attempt,
            "content_type": stream.content_type,
            "content": stream.content,
            "stored_bytes": len(stream.content),
            "length": stream.length,
            "sha256": stream.sha256,
        }
        StreamContent.objects.update_or_create(stage=stage, name=stream.name, defaults=values)


def forget_streams(stage_ids: Collection[int]) -> None:
    """Delete the stored streams of stages that begin anew."""
    StreamContent.objects.filter(stage__in=stage_ids).delete()


def _announce(stage: Stage, name: str, content_type: StreamContentType, *, at: datetime) -> None:
    opened: dict[str, Any] = {"name": name, "attempt": stage.attempt, "content_type": content_type}
    streams: list[dict[str, Any]] = stage.streams or []
    if opened in streams:
        return
    stage.streams = sorted(
        [*(each for each in streams if each["name"] != name), opened], key=lambda each: str(each["name"])
    )
    # Not `save()`: no status changes, and the workflow needs no lock.
    Stage.objects.filter(pk=stage.pk).update(streams=stage.streams)
    signals.stream_opened.send(sender=Stage, stage=stage, name=name, content_type=content_type, at=at)
