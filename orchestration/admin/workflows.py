"""The admin of workflows: each with its stages."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils.html import format_html

from orchestration import services
from orchestration.admin.display import (
    EMPTY,
    clipped,
    format_elapsed,
    format_json,
    format_time,
    format_time_ms,
    id_text,
    look_badge,
    preformatted,
    row_link,
    status_badge,
)
from orchestration.admin.filters import ParentFilter, PoolFilter, StatusFilter, WorkflowFilter
from orchestration.admin.read_only import ReadOnlyInline
from orchestration.admin.row_actions import RowAction, RowActionsAdmin
from orchestration.admin.stages import StageColumns
from orchestration.admin.start_view import start_workflow_view
from orchestration.admin.statuses import HELD
from orchestration.admin.sub_runs import SubRunsInline, tree_facts
from orchestration.admin.waits import WaitsInline
from orchestration.admin.workflow_failure import (
    FAILED_ITEMS_ONLY,
    FROM_STAGE,
    failure_of,
    has_failed_items,
    may_retry,
    retry_choices,
)
from orchestration.models import Pool, Stage, Workflow, WorkflowStatus

_TIMES: Final = ("created_ms", "started", "finished", "duration", "deadline")

CANCELLED_BY_OPERATOR = "Cancelled by an operator"


class StagesInline(StageColumns, ReadOnlyInline):
    """The stages of a workflow, in order."""

    model = Stage
    list_parameter = WorkflowFilter.parameter_name
    ordering = ("step", "position")
    fields = readonly_fields = (
        "number",
        "stage_link",
        "status_label",
        "pool_link",
        "worker_link",
        "attempts",
        "duration",
        "finished",
        "error_preview",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        # The page of a stage lists its items.
        return super().get_queryset(request).filter(item_of=None).defer("plan", "result")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        # Most workflows have all their stages in one pool.
        left_out = () if obj is not None and obj.own_pools else ("pool_link",)
        return [field for field in self.readonly_fields if field not in left_out]

    @admin.display(description="step")
    def number(self, stage: Stage) -> int:
        return stage.step + 1

    @admin.display(description="stage")
    def stage_link(self, stage: Stage) -> str:
        return row_link(Stage, stage.pk, stage.name)


@admin.register(Workflow)
class WorkflowAdmin(RowActionsAdmin):
    """Workflows, newest first."""

    list_display = (
        "title",
        "status_label",
        "short_id",
        "stages_progress",
        "error_or_prompt",
        "pool_link",
        "created",
        "duration",
    )
    list_filter = (StatusFilter, PoolFilter, ParentFilter)
    ordering = ("-created_at",)
    search_fields = ("id__startswith", "name__startswith", "prompt__icontains")
    search_help_text = "The beginning of an id or a name, or words of a prompt."
    inlines = (StagesInline, WaitsInline, SubRunsInline)
    actions = ("cancel_workflows", "retry_workflows")
    row_actions = (
        RowAction(name="cancel_workflows", label="Cancel this workflow", target_status=WorkflowStatus.CANCELLED),
        RowAction(name="retry_workflows", label="Retry this workflow", applies=may_retry),
    )
    readonly_fields = (
        *_TIMES,
        "adapter",
        "held_text",
        "prompt_text",
        "params_json",
        "result_json",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        # Lists do not show these columns, and a row may hold megabytes of them.
        workflows: QuerySet[Any] = super().get_queryset(request).annotate(runs_here=Q(plan__isnull=False))
        return workflows.defer("params", "result", "plan", "secrets")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        texts = (("held_text", "held_reason"), ("prompt_text", "prompt"))
        shown = tuple(field for field, column in texts if obj is not None and getattr(obj, column))
        return (
            ("Details", {"fields": ((*_TIMES, "adapter"), *shown)}),
            ("Data", {"fields": ("params_json", "result_json"), "classes": ("collapse",)}),
        )

    def get_inlines(self, request: HttpRequest, obj: Any) -> list[Any]:
        return [inline for inline in self.inlines if inline is not SubRunsInline or obj.has_children]

    def page_title(self, row: Any) -> str:
        return row.name or super().page_title(row)

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Any = None,
    ) -> HttpResponse:
        facts = [self.status_label(obj), self.stages_progress(obj)]
        if obj.started_at is not None:
            facts.append(format_html("started {}", format_time_ms(obj.started_at)))
        if obj.finished_at is not None and obj.started_at is not None:
            facts.append(f"took {self.duration(obj)}")
        if obj.pool_id is not None:
            facts.append(format_html("pool {}", self.pool_link(obj)))
        facts += tree_facts(obj)
        context |= {"facts": facts, "failure": failure_of(obj), "retry_choices": retry_choices(obj)}
        context["has_failed_items"] = has_failed_items(obj)
        return super().render_change_form(request, context, add, change, form_url, obj)

    def get_urls(self) -> list[URLPattern]:
        start = self.admin_site.admin_view(partial(start_workflow_view, self))
        return [path("start/", start, name="orchestration_workflow_start"), *super().get_urls()]

    @admin.action(description="Cancel selected workflows", permissions=["run_action"])
    def cancel_workflows(self, request: HttpRequest, rows: QuerySet[Workflow]) -> HttpResponse | None:
        cancel = partial(services.cancel_workflow, reason=CANCELLED_BY_OPERATOR)
        return self.run_action(request, rows, lambda id: cancel(workflow_id=id), done="Cancelled")

    @admin.action(description="Retry selected workflows", permissions=["run_action"])
    def retry_workflows(self, request: HttpRequest, rows: QuerySet[Workflow]) -> HttpResponse | None:
        # Only the page of a workflow has these fields.
        from_stage, failed_items_only = request.POST.get(FROM_STAGE) or None, FAILED_ITEMS_ONLY in request.POST
        retry = partial(services.retry_run, from_stage=from_stage, failed_items_only=failed_items_only)
        return self.run_action(request, rows, lambda id: retry(workflow_id=id), done="Retried")

    @admin.display(description="name", ordering="name")
    def title(self, workflow: Workflow) -> str:
        return workflow.name or "(no name)"

    @admin.display(description="id", ordering="pk")
    def short_id(self, workflow: Workflow) -> str:
        return id_text(workflow.pk)

    @admin.display(description="status", ordering="status")
    def status_label(self, workflow: Workflow) -> str:
        badge = status_badge("workflow", workflow.status, live=f"workflow:{workflow.pk}")
        return format_html("{} {}", badge, look_badge(HELD)) if workflow.held_reason else badge

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
            '<span class="stages" data-live="workflow:{}"><progress aria-hidden="true" value="{}" max="{}"></progress> '
            '<span class="word">{} of {}</span></span>',
            workflow.pk,
            workflow.stages_completed,
            workflow.total_stages or 1,
            workflow.stages_completed,
            workflow.total_stages,
        )

    @admin.display(description="created", ordering="created_at")
    def created(self, workflow: Workflow) -> str:
        return format_time(workflow.created_at)

    @admin.display(description="created")
    def created_ms(self, workflow: Workflow) -> str:
        return format_time_ms(workflow.created_at)

    @admin.display(description="started")
    def started(self, workflow: Workflow) -> str:
        return format_time_ms(workflow.started_at)

    @admin.display(description="finished")
    def finished(self, workflow: Workflow) -> str:
        return format_time_ms(workflow.finished_at)

    @admin.display(description="took")
    def duration(self, workflow: Workflow) -> str:
        return format_elapsed(workflow.started_at, workflow.finished_at)

    @admin.display(description="times out")
    def deadline(self, workflow: Workflow) -> str:
        return format_time(workflow.deadline_at)

    @admin.display(description="error, or prompt")
    def error_or_prompt(self, workflow: Workflow) -> str:
        return clipped(workflow.error or workflow.prompt)

    @admin.display(description="prompt")
    def prompt_text(self, workflow: Workflow) -> str:
        return preformatted(workflow.prompt)

    @admin.display(description="parameters")
    def params_json(self, workflow: Workflow) -> str:
        return format_json(workflow.params)

    @admin.display(description="result")
    def result_json(self, workflow: Workflow) -> str:
        return format_json(workflow.result)
