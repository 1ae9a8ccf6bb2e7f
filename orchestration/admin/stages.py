"""The admin of stages: each with its failed attempts."""

from __future__ import annotations

from typing import Any, Final

from django.contrib import admin
from django.db.models import F, QuerySet
from django.db.models.fields.json import KT
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat

from orchestration.admin.display import (
    EMPTY,
    clipped,
    format_duration,
    format_json,
    format_time_ms,
    preformatted,
    preview,
    row_link,
    status_badge,
)
from orchestration.admin.filters import ItemFilter, PoolFilter, StatusFilter, WorkflowFilter
from orchestration.admin.read_only import ReadOnlyAdmin, ReadOnlyInline
from orchestration.admin.streams import StreamsInline
from orchestration.admin.waits import WaitsOfStageInline
from orchestration.models import Pool, Stage, StepRecord, Worker, Workflow
from orchestration.models.failed_attempt import FailedAttempt

_FACTS: Final = ("status_label", "workflow_link", "pool_link", "adapter", "worker_link", "attempts", "progress_text")
_RARE_FACTS: Final = {
    "skip_reason": "skip_reason",
    "items_text": "items_total",
    "item_of_link": "item_of_id",
    "added_by_link": "added_by_id",
}
"""Most stages do not have these: each with the attribute that is None or empty then."""


_TIMES: Final = ("queued", "started", "finished", "duration")

_OF_PAGE: Final = {
    "workflow_adapter": F("workflow__adapter"),
    "own_adapter": KT("plan__adapter"),
    "items_total": F("map__total"),
    "items_completed": F("map__completed"),
    "items_failed": F("map__failed"),
    "item_of_name": F("item_of__name"),
    "added_by_name": F("added_by__name"),
}
"""What the page of a stage shows of other rows."""

CONTINUED: Final = "never: the worker of the stage before it continued with it"


class FailedAttemptsInline(ReadOnlyInline):
    """The failed attempts of a stage."""

    model = FailedAttempt
    ordering = ("attempt",)
    fields = readonly_fields = ("attempt", "reason", "worker_link", "ended", "error_text", "traceback_text")

    @admin.display(description="worker")
    def worker_link(self, attempt: FailedAttempt) -> str:
        return row_link(Worker, attempt.worker_name or None)

    @admin.display(description="ended")
    def ended(self, attempt: FailedAttempt) -> str:
        return format_time_ms(attempt.ended_at)

    @admin.display(description="error")
    def error_text(self, attempt: FailedAttempt) -> str:
        return preformatted(attempt.error)

    @admin.display(description="traceback")
    def traceback_text(self, attempt: FailedAttempt) -> str:
        return preformatted(attempt.traceback)


class StepRecordsInline(ReadOnlyInline):
    """The steps that attempts at a stage have completed; later attempts read their outputs."""

    model = StepRecord
    ordering = ("pk",)
    fields = readonly_fields = ("name", "attempt", "output_size", "completed")
    verbose_name_plural = "steps"

    @admin.display(description="output")
    def output_size(self, step: StepRecord) -> str:
        return filesizeformat(step.output_bytes)

    @admin.display(description="completed")
    def completed(self, step: StepRecord) -> str:
        return format_time_ms(step.completed_at)


class StageColumns:
    """Columns of a stage, shared by the list of stages and the page of a workflow."""

    @admin.display(description="status", ordering="status")
    def status_label(self, stage: Stage) -> str:
        return status_badge("stage", stage.status, live=f"workflow:{stage.workflow_id}", stage=stage.name)

    @admin.display(description="worker")
    def worker_link(self, stage: Stage) -> str:
        return row_link(Worker, stage.worker_id)

    @admin.display(description="attempts")
    def attempts(self, stage: Stage) -> str:
        return f"{stage.attempt} of {stage.last_attempt}" if stage.attempt else EMPTY

    @admin.display(description="finished")
    def finished(self, stage: Stage) -> str:
        return format_time_ms(stage.finished_at)

    @admin.display(description="took")
    def duration(self, stage: Stage) -> str:
        return format_duration(stage.duration_ms)

    @admin.display(description="pool", ordering="pool_id")
    def pool_link(self, stage: Stage) -> str:
        return row_link(Pool, stage.pool_id)

    @admin.display(description="error")
    def error_preview(self, stage: Stage) -> str:
        return clipped(stage.error)


class ItemsInline(StageColumns, ReadOnlyInline):
    """The items of a stage that runs once for each value of a list."""

    model = Stage
    fk_name = "item_of"
    list_parameter = ItemFilter.parameter_name
    ordering = ("item_index",)
    fields = readonly_fields = (
        *("item_link", "status_label", "worker_link", "attempts", "duration", "finished", "error_preview"),
    )
    verbose_name_plural = "items"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("plan", "result")

    @admin.display(description="item")
    def item_link(self, stage: Stage) -> str:
        return row_link(Stage, stage.pk, stage.name)


@admin.register(Stage)
class StageAdmin(StageColumns, ReadOnlyAdmin):
    """Stages of all workflows, newest first; those of one workflow in its order."""

    list_display = (
        "name",
        "status_label",
        "workflow_link",
        "pool_link",
        "worker_link",
        "attempts",
        "duration",
        "error_preview",
    )
    list_filter = (StatusFilter, PoolFilter, WorkflowFilter, ItemFilter)
    sortable_by = ()
    search_fields = ("workflow__id__startswith", "name")
    search_help_text = "The beginning of a workflow's id, or a part of a stage's name."
    inlines = (ItemsInline, WaitsOfStageInline, StreamsInline, FailedAttemptsInline, StepRecordsInline)
    readonly_fields = (*_FACTS, *_RARE_FACTS, *_TIMES, "error_text", "result_json")

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        # The unique indexes have the items of a stage, and the stages of a workflow, in these orders.
        if ItemFilter.parameter_name in request.GET:
            return ("item_of_id", "item_index")
        return ("workflow_id", "position") if WorkflowFilter.parameter_name in request.GET else ("-pk",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        # Lists do not show these columns, and a row may hold megabytes of them.
        stages: QuerySet[Any] = super().get_queryset(request).annotate(workflow_name=F("workflow__name"))
        if WorkflowFilter.parameter_name in request.GET:
            stages = stages.filter(item_of=None)
        match = request.resolver_match
        if match is not None and "object_id" in match.kwargs:
            stages = stages.annotate(**_OF_PAGE)
        return stages.defer("result", "plan")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        rare = [field for field, attribute in _RARE_FACTS.items() if getattr(obj, attribute, None) not in (None, "")]
        return [(*_FACTS, *rare), _TIMES, "error_text", "result_json"]

    def get_inlines(self, request: HttpRequest, obj: Any) -> list[Any]:
        # Most stages have neither items nor streams.
        is_shown = {ItemsInline: obj.items_total is not None, StreamsInline: bool(obj.streams)}
        return [inline for inline in self.inlines if is_shown.get(inline, True)]

    def page_title(self, row: Any) -> str:
        return f"Stage {row.name}"

    @admin.display(description="workflow", ordering="workflow_id")
    def workflow_link(self, stage: Any) -> str:
        return row_link(Workflow, stage.workflow_id, " · ".join(filter(None, (stage.workflow_name, stage.workflow_id))))

    @admin.display(description="adapter")
    def adapter(self, stage: Any) -> str:
        """Return the adapter that runs it: its own one, or that of its workflow."""
        own: str = stage.own_adapter or stage.workflow_adapter
        return own

    @admin.display(description="items")
    def items_text(self, stage: Any) -> str:
        """Return how many of its items have ended."""
        failed = f", {stage.items_failed} failed" if stage.items_failed else ""
        return f"{stage.items_completed} of {stage.items_total} completed{failed}"

    @admin.display(description="item of")
    def item_of_link(self, stage: Any) -> str:
        return row_link(Stage, stage.item_of_id, stage.item_of_name)

    @admin.display(description="added by")
    def added_by_link(self, stage: Any) -> str:
        return row_link(Stage, stage.added_by_id, stage.added_by_name)

    @admin.display(description="progress")
    def progress_text(self, stage: Stage) -> str:
        percentage = "" if stage.progress is None else f"{stage.progress:.0%}"
        return preview(f"{percentage} {stage.progress_message}".strip())

    @admin.display(description="queued")
    def queued(self, stage: Stage) -> str:
        if stage.queued_at is None and stage.started_at is not None:
            return CONTINUED
        return format_time_ms(stage.queued_at)

    @admin.display(description="started")
    def started(self, stage: Stage) -> str:
        return format_time_ms(stage.started_at)

    @admin.display(description="error")
    def error_text(self, stage: Stage) -> str:
        return preformatted(stage.error)

    @admin.display(description="result")
    def result_json(self, stage: Stage) -> str:
        return format_json(stage.result)
