"""The admin of workflows: each with its stages."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils.html import format_html

from orchestration import services
from orchestration.admin.display import (
    EMPTY,
    format_elapsed,
    format_json,
    format_time,
    preformatted,
    preview,
    row_link,
    status_badge,
)
from orchestration.admin.filters import PoolFilter, WorkflowFilter
from orchestration.admin.read_only import ReadOnlyInline
from orchestration.admin.row_actions import RowAction, RowActionsAdmin
from orchestration.admin.stages import StageColumns
from orchestration.admin.start_view import start_workflow_view
from orchestration.models import Pool, Stage, Workflow, WorkflowStatus

_SUMMARY = ("stages_progress", "pool_link", "adapter", "prompt_text", "error_text")

CANCELLED_BY_OPERATOR = "Cancelled by an operator"


class StagesInline(StageColumns, ReadOnlyInline):
    """The stages of a workflow, in order."""

    model = Stage
    list_parameter = WorkflowFilter.parameter_name
    ordering = ("position",)
    fields = readonly_fields = (
        "number",
        "stage_link",
        "status_label",
        "worker_link",
        "attempts",
        "duration",
        "finished",
        "error_preview",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("plan", "result")

    @admin.display(description="#")
    def number(self, stage: Stage) -> int:
        return stage.position + 1

    @admin.display(description="stage")
    def stage_link(self, stage: Stage) -> str:
        return row_link(Stage, stage.pk, stage.name)

    @admin.display(description="attempts")
    def attempts(self, stage: Stage) -> int:
        return stage.attempt


@admin.register(Workflow)
class WorkflowAdmin(RowActionsAdmin):
    """Workflows, newest first."""

    list_display = (
        "id",
        "name",
        "status_label",
        "stages_progress",
        "prompt_preview",
        "pool_link",
        "adapter",
        "created",
        "duration",
    )
    list_filter = ("status", PoolFilter)
    ordering = ("-created_at",)
    search_fields = ("id__startswith", "name__startswith", "prompt__icontains")
    search_help_text = "The beginning of an id or a name, or words of a prompt."
    inlines = (StagesInline,)
    actions = ("cancel_workflows",)
    row_actions = (
        RowAction(name="cancel_workflows", label="Cancel this workflow", target_status=WorkflowStatus.CANCELLED),
    )
    fieldsets = (
        (
            None,
            {
                "fields": (
                    "id",
                    "name",
                    "status_label",
                    "held_text",
                    "stages_progress",
                    "pool_link",
                    "adapter",
                    "prompt_text",
                    "error_text",
                )
            },
        ),
        ("Times", {"fields": ("created", "started", "finished", "duration", "deadline")}),
        ("Data", {"fields": ("params_json", "result_json"), "classes": ("collapse",)}),
    )
    readonly_fields = (
        "id",
        "name",
        "status_label",
        "held_text",
        *_SUMMARY,
        "created",
        "started",
        "finished",
        "duration",
        "deadline",
        "params_json",
        "result_json",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        # Lists do not show these columns, and a row may hold megabytes of them.
        return super().get_queryset(request).defer("params", "result", "plan")

    def get_urls(self) -> list[URLPattern]:
        start = self.admin_site.admin_view(partial(start_workflow_view, self))
        return [path("start/", start, name="orchestration_workflow_start"), *super().get_urls()]

    @admin.action(description="Cancel selected workflows", permissions=["run_action"])
    def cancel_workflows(self, request: HttpRequest, rows: QuerySet[Workflow]) -> HttpResponse | None:
        cancel = partial(services.cancel_workflow, reason=CANCELLED_BY_OPERATOR)
        return self.run_action(request, rows, lambda id: cancel(workflow_id=id), done="Cancelled")

    @admin.display(description="status", ordering="status")
    def status_label(self, workflow: Workflow) -> str:
        badge = status_badge(workflow.status)
        return format_html("{} {}", badge, status_badge("held")) if workflow.held_reason else badge

    @admin.display(description="held")
    def held_text(self, workflow: Workflow) -> str:
        """Return why no worker can take it now."""
        if not workflow.held_reason:
            return EMPTY
        missing = f" {workflow.held_needs}" if workflow.held_needs else ""
        why = f"{workflow.held_reason.replace('_', ' ')}{missing}, since"
        return format_html("{} {}", why, format_time(workflow.held_since))

    @admin.display(description="pool", ordering="pool_id")
    def pool_link(self, workflow: Workflow) -> str:
        return row_link(Pool, workflow.pool_id)

    @admin.display(description="stages")
    def stages_progress(self, workflow: Workflow) -> str:
        return format_html(
            '<progress aria-hidden="true" value="{}" max="{}"></progress> {} of {}',
            workflow.stages_completed,
            workflow.total_stages or 1,
            workflow.stages_completed,
            workflow.total_stages,
        )

    @admin.display(description="created", ordering="created_at")
    def created(self, workflow: Workflow) -> str:
        return format_time(workflow.created_at)

    @admin.display(description="started")
    def started(self, workflow: Workflow) -> str:
        return format_time(workflow.started_at)

    @admin.display(description="finished")
    def finished(self, workflow: Workflow) -> str:
        return format_time(workflow.finished_at)

    @admin.display(description="duration")
    def duration(self, workflow: Workflow) -> str:
        return format_elapsed(workflow.started_at, workflow.finished_at)

    @admin.display(description="times out")
    def deadline(self, workflow: Workflow) -> str:
        return format_time(workflow.deadline_at)

    @admin.display(description="prompt")
    def prompt_preview(self, workflow: Workflow) -> str:
        return preview(workflow.prompt)

    @admin.display(description="prompt")
    def prompt_text(self, workflow: Workflow) -> str:
        return preformatted(workflow.prompt)

    @admin.display(description="error")
    def error_text(self, workflow: Workflow) -> str:
        return preformatted(workflow.error)

    @admin.display(description="parameters")
    def params_json(self, workflow: Workflow) -> str:
        return format_json(workflow.params)

    @admin.display(description="result")
    def result_json(self, workflow: Workflow) -> str:
        return format_json(workflow.result)
