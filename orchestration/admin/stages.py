"""Stages, each with the attempts that did not end well."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from orchestration.admin.filters import PoolFilter
from orchestration.admin.formatting import badge, indented_json, link, milliseconds, moment, preformatted, shortened
from orchestration.admin.read_only import ReadOnlyAdmin, ReadOnlyInline
from orchestration.models import Pool, Stage, Worker, Workflow
from orchestration.models.failed_attempt import FailedAttempt


class FailedAttemptsOfStage(ReadOnlyInline):
    model = FailedAttempt
    ordering = ("attempt",)
    fields = readonly_fields = ("attempt", "reason", "worker", "ended", "told", "traced")

    @admin.display(description="worker")
    def worker(self, attempt: FailedAttempt) -> str:
        return link(Worker, attempt.worker_name or None)

    @admin.display(description="ended")
    def ended(self, attempt: FailedAttempt) -> str:
        return moment(attempt.ended_at)

    @admin.display(description="error")
    def told(self, attempt: FailedAttempt) -> str:
        return preformatted(attempt.error)

    @admin.display(description="traceback")
    def traced(self, attempt: FailedAttempt) -> str:
        return preformatted(attempt.traceback)


class StageCells:
    """What a stage's row says, wherever it is shown."""

    @admin.display(description="status", ordering="status")
    def state(self, stage: Stage) -> str:
        return badge(stage.status)

    @admin.display(description="worker")
    def on_worker(self, stage: Stage) -> str:
        return link(Worker, stage.worker_id)

    @admin.display(description="finished")
    def finished(self, stage: Stage) -> str:
        return moment(stage.finished_at)

    @admin.display(description="took")
    def took(self, stage: Stage) -> str:
        return milliseconds(stage.duration_ms)

    @admin.display(description="error")
    def said(self, stage: Stage) -> str:
        return shortened(stage.error)


@admin.register(Stage)
class StageAdmin(StageCells, ReadOnlyAdmin):
    list_display = ("name", "state", "of_workflow", "in_pool", "on_worker", "attempt", "took", "said")
    list_filter = ("status", PoolFilter)
    ordering = ("-pk",)
    sortable_by = ()
    search_fields = ("workflow_id__startswith", "name")
    search_help_text = "The beginning of a workflow's id, or a part of a stage's name."
    inlines = (FailedAttemptsOfStage,)
    fields = readonly_fields = (
        "name",
        "state",
        "of_workflow",
        "in_pool",
        "on_worker",
        "attempt",
        "progress_told",
        "queued",
        "started",
        "finished",
        "took",
        "error_text",
        "result_json",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        # Read only where it is shown: a row may hold megabytes of it.
        return super().get_queryset(request).defer("result", "plan")

    @admin.display(description="workflow", ordering="workflow_id")
    def of_workflow(self, stage: Stage) -> str:
        return link(Workflow, stage.workflow_id)

    @admin.display(description="pool", ordering="pool_id")
    def in_pool(self, stage: Stage) -> str:
        return link(Pool, stage.pool_id)

    @admin.display(description="progress")
    def progress_told(self, stage: Stage) -> str:
        told = "" if stage.progress is None else f"{stage.progress:.0%}"
        return shortened(f"{told} {stage.progress_message}".strip())

    @admin.display(description="queued")
    def queued(self, stage: Stage) -> str:
        return moment(stage.queued_at)

    @admin.display(description="started")
    def started(self, stage: Stage) -> str:
        return moment(stage.started_at)

    @admin.display(description="error")
    def error_text(self, stage: Stage) -> str:
        return preformatted(stage.error)

    @admin.display(description="result")
    def result_json(self, stage: Stage) -> str:
        return indented_json(stage.result)
