"""Workflows, each with its stages."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils.html import format_html

from orchestration import services
from orchestration.admin.actions import OperatedAdmin, Operation
from orchestration.admin.filters import PoolFilter
from orchestration.admin.formatting import badge, indented_json, link, moment, preformatted, shortened, span
from orchestration.admin.read_only import ReadOnlyInline
from orchestration.admin.stages import StageCells
from orchestration.admin.start_view import start_page
from orchestration.models import Pool, Stage, Workflow, WorkflowStatus

CANCELLED_BY_OPERATOR = "Cancelled by an operator"


class StagesOfWorkflow(StageCells, ReadOnlyInline):
    model = Stage
    ordering = ("position",)
    fields = readonly_fields = ("number", "stage", "state", "on_worker", "attempts", "took", "finished", "said")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("plan", "result")

    @admin.display(description="#")
    def number(self, stage: Stage) -> int:
        return stage.position + 1

    @admin.display(description="stage")
    def stage(self, stage: Stage) -> str:
        return link(Stage, stage.pk, stage.name)

    @admin.display(description="attempts")
    def attempts(self, stage: Stage) -> int:
        return stage.attempt


@admin.register(Workflow)
class WorkflowAdmin(OperatedAdmin):
    list_display = ("id", "state", "stages_done", "asked", "in_pool", "adapter", "created", "took")
    list_filter = ("status", PoolFilter)
    ordering = ("-created_at",)
    search_fields = ("id__startswith", "prompt__icontains")
    search_help_text = "The beginning of an id, or words of a prompt."
    inlines = (StagesOfWorkflow,)
    actions = ("cancel_workflows",)
    operations = (Operation(action="cancel_workflows", label="Cancel this workflow", status=WorkflowStatus.CANCELLED),)
    fieldsets = (
        (None, {"fields": ("id", "state", "stages_done", "in_pool", "adapter", "prompt_text", "error_text")}),
        ("Times", {"fields": ("created", "started", "finished", "took", "deadline")}),
        ("Data", {"fields": ("params_json", "result_json"), "classes": ("collapse",)}),
    )
    readonly_fields = (
        "id",
        "state",
        "stages_done",
        "in_pool",
        "adapter",
        "prompt_text",
        "error_text",
        "created",
        "started",
        "finished",
        "took",
        "deadline",
        "params_json",
        "result_json",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        # Read only where they are shown: a row may hold megabytes of them.
        return super().get_queryset(request).defer("params", "result", "plan")

    def get_urls(self) -> list[URLPattern]:
        start = self.admin_site.admin_view(partial(start_page, self))
        return [path("start/", start, name="orchestration_workflow_start"), *super().get_urls()]

    @admin.action(description="Cancel selected workflows", permissions=["operate"])
    def cancel_workflows(self, request: HttpRequest, rows: QuerySet[Workflow]) -> HttpResponse | None:
        cancel = partial(services.cancel_workflow, reason=CANCELLED_BY_OPERATOR)
        return self.operate(request, rows, lambda id: cancel(workflow_id=id), done="Cancelled")

    @admin.display(description="status", ordering="status")
    def state(self, workflow: Workflow) -> str:
        return badge(workflow.status)

    @admin.display(description="pool", ordering="pool_id")
    def in_pool(self, workflow: Workflow) -> str:
        return link(Pool, workflow.pool_id)

    @admin.display(description="stages")
    def stages_done(self, workflow: Workflow) -> str:
        return format_html(
            '<progress aria-hidden="true" value="{}" max="{}"></progress> {} of {}',
            workflow.stages_completed,
            workflow.total_stages or 1,
            workflow.stages_completed,
            workflow.total_stages,
        )

    @admin.display(description="created", ordering="created_at")
    def created(self, workflow: Workflow) -> str:
        return moment(workflow.created_at)

    @admin.display(description="started")
    def started(self, workflow: Workflow) -> str:
        return moment(workflow.started_at)

    @admin.display(description="finished")
    def finished(self, workflow: Workflow) -> str:
        return moment(workflow.finished_at)

    @admin.display(description="took")
    def took(self, workflow: Workflow) -> str:
        return span(workflow.started_at, workflow.finished_at)

    @admin.display(description="times out")
    def deadline(self, workflow: Workflow) -> str:
        return moment(workflow.deadline_at)

    @admin.display(description="prompt")
    def asked(self, workflow: Workflow) -> str:
        return shortened(workflow.prompt)

    @admin.display(description="prompt")
    def prompt_text(self, workflow: Workflow) -> str:
        return preformatted(workflow.prompt)

    @admin.display(description="error")
    def error_text(self, workflow: Workflow) -> str:
        return preformatted(workflow.error)

    @admin.display(description="parameters")
    def params_json(self, workflow: Workflow) -> str:
        return indented_json(workflow.params)

    @admin.display(description="result")
    def result_json(self, workflow: Workflow) -> str:
        return indented_json(workflow.result)
