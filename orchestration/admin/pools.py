"""The admin of pools: each with its metrics and its workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final

from django import forms
from django.contrib import admin
from django.contrib.admin.utils import label_for_field
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html

from orchestration import services
from orchestration.admin.display import format_time, row_link, status_badge
from orchestration.admin.filters import PoolFilter, StatusFilter
from orchestration.admin.read_only import ReadOnlyInline
from orchestration.admin.row_actions import RowAction, RowActionsAdmin
from orchestration.admin.workers import WorkerColumns, count_offline, offline_url, with_stage_name
from orchestration.models import POOL_COUNTERS, Pool, PoolStatus, Worker, WorkerStatus

if TYPE_CHECKING:
    _PoolForm = forms.ModelForm[Model]
else:
    _PoolForm = forms.ModelForm

# In the order of the model's columns: four worker counters, then four stage counters.
METRICS = tuple(field.name for field in Pool._meta.fields if field.name in POOL_COUNTERS)


_COLUMN_TITLES: Final = {
    "worker_count": "workers",
    "active_workers": "busy",
    "idle_workers": "idle",
    "error_workers": "in error",
    "queue_size": "queued",
    "tasks_running": "running",
    "tasks_completed": "done",
    "tasks_failed": "failed",
}


def _metric_column(name: str) -> Callable[[Any], str]:
    @admin.display(description=_COLUMN_TITLES[name], ordering=name)
    def column(pool: Pool) -> str:
        return format_html('<span data-live="pool:{}" data-metric="{}">{}</span>', pool.pk, name, getattr(pool, name))

    column.__name__ = name
    return column


METRIC_COLUMNS: Final[tuple[Any, ...]] = tuple(map(_metric_column, METRICS))


_LABELS: Final = {"active_workers": "busy workers", "worker_count": "workers"}


class PoolForm(_PoolForm):
    """The labels of the counters: a worker that is active is busy, and a pool that is active is open."""

    class Meta:
        labels: ClassVar = {name: _LABELS.get(name, label_for_field(name, Pool)) for name in METRICS}
        help_texts: ClassVar = {field.name: field.help_text for field in Pool._meta.fields if field.name in METRICS}


class WorkersInline(WorkerColumns, ReadOnlyInline):
    """The workers of a pool."""

    model = Worker
    list_parameter = PoolFilter.parameter_name
    ordering = ("pk",)
    fields = readonly_fields = ("worker_link", "status_label", "stage_link", "status_since", "last_heartbeat")
    template = "admin/orchestration/workers_inline.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        # Offline workers are counted below the table.
        return with_stage_name(super().get_queryset(request)).exclude(status=WorkerStatus.OFFLINE)

    @admin.display(description="worker")
    def worker_link(self, worker: Worker) -> str:
        return row_link(Worker, worker.pk)


@admin.register(Pool)
class PoolAdmin(RowActionsAdmin):
    """Pools with their counters."""

    form = PoolForm
    list_display = ("id", "status_label", *METRIC_COLUMNS)
    list_filter = (StatusFilter,)
    ordering = ("pk",)
    search_fields = ("id__startswith",)
    search_help_text = "The beginning of an id."
    inlines = (WorkersInline,)
    actions = ("drain_pools", "reopen_pools")
    row_actions = (
        RowAction(name="drain_pools", label="Drain this pool", target_status=PoolStatus.DRAINING),
        RowAction(name="reopen_pools", label="Reopen this pool", target_status=PoolStatus.ACTIVE),
    )
    fieldsets = (("Metrics", {"fields": (METRIC_COLUMNS[:4], METRIC_COLUMNS[4:])}),)
    readonly_fields = METRIC_COLUMNS

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Any = None,
    ) -> HttpResponse:
        times = (("created", obj.created_at), ("last change", obj.updated_at))
        facts = [self.status_label(obj), *(format_html("{} {}", name, format_time(at)) for name, at in times)]
        context |= {"facts": facts, "unlisted_offline": count_offline(obj.pk), "offline_url": offline_url(obj.pk)}
        return super().render_change_form(request, context, add, change, form_url, obj)

    @admin.action(description="Drain selected pools", permissions=["run_action"])
    def drain_pools(self, request: HttpRequest, rows: QuerySet[Pool]) -> HttpResponse | None:
        return self.run_action(request, rows, lambda id: services.drain_pool(pool_id=id), done="Draining")

    @admin.action(description="Reopen selected pools", permissions=["run_action"])
    def reopen_pools(self, request: HttpRequest, rows: QuerySet[Pool]) -> HttpResponse | None:
        return self.run_action(request, rows, lambda id: services.reopen_pool(pool_id=id), done="Reopened")

    @admin.display(description="status", ordering="status")
    def status_label(self, pool: Pool) -> str:
        return status_badge("pool", pool.status, live=f"pool:{pool.pk}")
