"""The admin of waits: what stages ask, and who has answered."""

from __future__ import annotations

from typing import Any, Final

from django.contrib import admin
from django.db.models import F, QuerySet
from django.http import HttpRequest

from orchestration.admin.display import clipped, format_json, format_time, format_time_ms, row_link, status_badge
from orchestration.admin.filters import StatusFilter, WorkflowFilter
from orchestration.admin.read_only import ReadOnlyAdmin, ReadOnlyInline
from orchestration.models import Stage, Wait, WaitStatus, Workflow

_FACTS: Final = ("status_label", "workflow_link", "stage_link", "kind", "recipients_text")
_TIMES: Final = ("opened_ms", "expires", "answered_by", "answered")


class WaitColumns:
    """Columns of a wait, shared by the list of waits and the pages of its workflow and its stage."""

    @admin.display(description="status", ordering="status")
    def status_label(self, wait: Wait) -> str:
        return status_badge("wait", wait.status)

    @admin.display(description="wait")
    def wait_link(self, wait: Wait) -> str:
        return row_link(Wait, wait.pk, wait.name)

    @admin.display(description="stage")
    def stage_link(self, wait: Any) -> str:
        return row_link(Stage, wait.stage_id, wait.stage_name)

    @admin.display(description="title")
    def title_text(self, wait: Wait) -> str:
        return clipped(wait.title)

    @admin.display(description="opened", ordering="opened_at")
    def opened(self, wait: Wait) -> str:
        return format_time(wait.opened_at)

    @admin.display(description="expires")
    def expires(self, wait: Wait) -> str:
        return format_time(wait.expires_at)

    @admin.display(description="answered")
    def answered(self, wait: Wait) -> str:
        return format_time(wait.answered_at)


def _with_stage_name(waits: QuerySet[Any]) -> QuerySet[Any]:
    """Leave out what lists do not show: forms and answers may be large."""
    named: QuerySet[Any] = waits.annotate(stage_name=F("stage__name"))
    return named.defer("schema", "answer", "on_timeout")


class WaitsInline(WaitColumns, ReadOnlyInline):
    """What the stages of a workflow have waited for."""

    model = Wait
    list_parameter = WorkflowFilter.parameter_name
    ordering = ("pk",)
    fields = readonly_fields = (
        *("wait_link", "status_label", "kind", "title_text", "stage_link", "opened", "expires"),
        *("answered_by", "answered"),
    )
    verbose_name_plural = "waits"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return _with_stage_name(super().get_queryset(request))


class WaitsOfStageInline(WaitColumns, ReadOnlyInline):
    """What one stage has waited for. The list of all waits has no filter for it."""

    model = Wait
    ordering = ("pk",)
    fields = readonly_fields = (
        *("wait_link", "status_label", "kind", "title_text", "opened", "expires", "answered_by", "answered"),
    )
    verbose_name_plural = "waits"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return _with_stage_name(super().get_queryset(request))


@admin.register(Wait)
class WaitAdmin(WaitColumns, ReadOnlyAdmin):
    """Waits of all workflows, newest first."""

    list_display = ("name", "status_label", "title_text", "workflow_link", "opened", "expires", "answered_by")
    list_filter = (StatusFilter, WorkflowFilter)
    sortable_by = ()
    search_fields = ("workflow__id__startswith", "name__startswith")
    search_help_text = "The beginning of a workflow's id, or of the name of a wait."
    readonly_fields = (*_FACTS, *_TIMES, "title", "form", "schema_json", "answer_json")
    fields = (_FACTS, _TIMES, "title", "form", "schema_json", "answer_json")

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        # The index of open waits has this order, so a page of them passes no others.
        is_open = request.GET.get(StatusFilter.parameter_name) == WaitStatus.OPEN
        return ("-opened_at", "-pk") if is_open else ("-pk",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        waits: QuerySet[Any] = super().get_queryset(request).annotate(workflow_name=F("workflow__name"))
        match = request.resolver_match
        is_page = match is not None and "object_id" in match.kwargs
        return waits.annotate(stage_name=F("stage__name")) if is_page else _with_stage_name(waits)

    def page_title(self, row: Any) -> str:
        return f"Wait {row.name}"

    @admin.display(description="workflow")
    def workflow_link(self, wait: Any) -> str:
        return row_link(Workflow, wait.workflow_id, " · ".join(filter(None, (wait.workflow_name, wait.workflow_id))))

    @admin.display(description="recipients")
    def recipients_text(self, wait: Wait) -> str:
        return ", ".join(wait.recipient_list) or self.get_empty_value_display()

    @admin.display(description="opened")
    def opened_ms(self, wait: Wait) -> str:
        return format_time_ms(wait.opened_at)

    @admin.display(description="schema")
    def schema_json(self, wait: Wait) -> str:
        return format_json(wait.schema)

    @admin.display(description="answer")
    def answer_json(self, wait: Wait) -> str:
        return format_json(wait.answer)
