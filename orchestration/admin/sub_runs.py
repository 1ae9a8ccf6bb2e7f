"""The tree of workflows in the admin: the sub-runs of a workflow, and the workflows above it."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html

from orchestration.admin.display import clipped, format_elapsed, format_time, row_link, status_badge
from orchestration.admin.filters import ParentFilter
from orchestration.admin.read_only import ReadOnlyInline
from orchestration.models import Stage, Workflow


class SubRunsInline(ReadOnlyInline):
    """The sub-runs that stages of a workflow have started, newest first."""

    model = Workflow
    fk_name = "parent"
    list_parameter = ParentFilter.parameter_name
    ordering = ("-created_at",)
    fields = readonly_fields = ("title_link", "status_label", "started_by", "created", "duration", "error_preview")
    verbose_name_plural = "sub-runs"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("params", "result", "plan", "secrets")

    @admin.display(description="workflow")
    def title_link(self, workflow: Workflow) -> str:
        return row_link(Workflow, workflow.pk, " · ".join(filter(None, (workflow.name, workflow.pk))))

    @admin.display(description="status")
    def status_label(self, workflow: Workflow) -> str:
        return status_badge("workflow", workflow.status, live=f"workflow:{workflow.pk}")

    @admin.display(description="started by")
    def started_by(self, workflow: Workflow) -> str:
        return row_link(Stage, workflow.parent_stage_id, "stage")

    @admin.display(description="created")
    def created(self, workflow: Workflow) -> str:
        return format_time(workflow.created_at)

    @admin.display(description="took")
    def duration(self, workflow: Workflow) -> str:
        return format_elapsed(workflow.started_at, workflow.finished_at)

    @admin.display(description="error")
    def error_preview(self, workflow: Workflow) -> str:
        return clipped(workflow.error)


def tree_facts(workflow: Workflow) -> list[str]:
    """Return links to what is above a sub-run: its parent, the stage that has started it, and the top of the tree."""
    if workflow.parent_id is None:
        return []
    parent, stage = row_link(Workflow, workflow.parent_id), row_link(Stage, workflow.parent_stage_id, "stage")
    facts: list[str] = [format_html("sub-run of {} ({})", parent, stage)]
    if workflow.root_id not in (None, workflow.parent_id):
        facts.append(format_html("of the tree of {}", row_link(Workflow, workflow.root_id)))
    return facts
