"""The admin of streams of chunks: what completed stages have written."""

from __future__ import annotations

from typing import Any, Final

from django.contrib import admin
from django.db.models import F, QuerySet
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat

from orchestration.admin.display import EMPTY, preformatted, row_link
from orchestration.admin.read_only import ReadOnlyAdmin, ReadOnlyInline
from orchestration.models import Stage, StreamContent

MAX_SHOWN_BYTES: Final = 256 * 1024
"""How much of a text its page shows."""

_FACTS: Final = ("stage_link", "attempt", "content_type", "size", "sha256")


class StreamColumns:
    """Columns of a stream, shared by its page and the page of its stage."""

    @admin.display(description="stream")
    def stream_link(self, stream: StreamContent) -> str:
        return row_link(StreamContent, stream.pk, stream.name)

    @admin.display(description="size")
    def size(self, stream: StreamContent) -> str:
        size = filesizeformat(stream.length)
        return size if stream.stored_bytes == stream.length else f"{size}, {filesizeformat(stream.stored_bytes)} stored"


class StreamsInline(StreamColumns, ReadOnlyInline):
    """The stored streams of a stage, without their contents."""

    model = StreamContent
    ordering = ("name",)
    fields = readonly_fields = ("stream_link", "attempt", "content_type", "size")
    verbose_name_plural = "streams"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("content")


@admin.register(StreamContent)
class StreamContentAdmin(StreamColumns, ReadOnlyAdmin):
    """The page of a stream, with its text. The pages of stages lead to it."""

    list_display = ("name", "stage_link", "attempt", "content_type", "size")
    ordering = ("-pk",)
    sortable_by = ()
    readonly_fields = (*_FACTS, "text")
    fields = (_FACTS, "text")

    def has_module_permission(self, request: HttpRequest) -> bool:
        # The first page of the admin does not list it: a stream means little without its stage.
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        streams: QuerySet[Any] = (
            super().get_queryset(request).annotate(stage_name=F("stage__name"), stage_workflow_id=F("stage__workflow"))
        )
        return streams.defer("content")

    def page_title(self, row: Any) -> str:
        return f"Stream {row.name}"

    @admin.display(description="stage")
    def stage_link(self, stream: Any) -> str:
        return row_link(Stage, stream.stage_id, stream.stage_name)

    @admin.display(description="content")
    def text(self, stream: StreamContent) -> str:
        """Return the beginning of a text; bytes are not shown."""
        if stream.content_type != "text":
            return EMPTY
        content = bytes(stream.content)
        text = content[:MAX_SHOWN_BYTES].decode(errors="ignore")
        return preformatted(text + "…" if len(content) > MAX_SHOWN_BYTES else text)
