"""The stored content of a stream, as the last attempt has written it that opened it and did not fail."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from orchestration.models.stage import Stage
from orchestration.stream_keys import MAX_STREAM_NAME_LENGTH


class StreamContent(models.Model):
    """A stream of an attempt that completed its stage, or began to wait.

    What is longer than `max_stream_bytes` is cut: `content` is its beginning.
    """

    stage = models.ForeignKey(Stage, on_delete=models.CASCADE, related_name="stream_contents", db_index=False)
    name = models.CharField(max_length=MAX_STREAM_NAME_LENGTH)
    attempt = models.PositiveIntegerField(help_text="The attempt that wrote it.")
    content_type = models.CharField(max_length=8, choices=[("text", "text"), ("bytes", "bytes")])
    content = models.BinaryField()
    stored_bytes = models.PositiveBigIntegerField(help_text="Size of `content`.")
    length = models.PositiveBigIntegerField(help_text="Bytes that were written, also those that are not stored.")
    sha256 = models.CharField(max_length=64, help_text="Of all bytes that were written.")

    class Meta:
        constraints = (
            models.UniqueConstraint(name="orchestration_stream_content_unique", fields=["stage", "name"]),
            models.CheckConstraint(
                name="orchestration_stream_content_length_valid", condition=Q(length__gte=models.F("stored_bytes"))
            ),
        )

    def __str__(self) -> str:
        return f"stream {self.name} of stage {self.stage_id}"
