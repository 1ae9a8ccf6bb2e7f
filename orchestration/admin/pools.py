"""The admin of pools: each with its metrics and its workers."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from orchestration import services
from orchestration.admin.display import format_time, row_link, status_badge
from orchestration.admin.filters import PoolFilter
from orchestration.admin.read_only import ReadOnlyInline
from orchestration.admin.row_actions import RowAction, RowActionsAdmin
from orchestration.admin.workers import WorkerColumns
from orchestration.models import POOL_COUNTERS, Pool, PoolStatus, Worker

# In the order of the model's columns: four worker counters, then four stage counters.
METRICS = tuple(field.name for field in Pool._meta.fields if field.name in POOL_COUNTERS)


class WorkersInline(WorkerColumns, ReadOnlyInline):
    """The workers of a pool."""

    model = Worker
    list_parameter = PoolFilter.parameter_name
    ordering = ("pk",)
    fields = readonly_fields = ("worker_link", "status_label", "stage_link", "status_since", "last_heartbeat")

    @admin.display(description="worker")
    def worker_link(self, worker: Worker) -> str:
        return row_link(Worker, worker.pk)


@admin.register(Pool)
class PoolAdmin(RowActionsAdmin):
    """Pools with their counters."""

    list_display = ("id", "status_label", *METRICS)
    list_filter = ("status",)
    ordering = ("pk",)
    search_fields = ("id__startswith",)
    search_help_text = "The beginning of an id."
    inlines = (WorkersInline,)
    actions = ("drain_pools", "reopen_pools")
    row_actions = (
        RowAction(name="drain_pools", label="Drain this pool", target_status=PoolStatus.DRAINING),
        RowAction(name="reopen_pools", label="Reopen this pool", target_status=PoolStatus.ACTIVE),
    )
    fieldsets = (
        (None, {"fields": ("id", "status_label", "created", "updated")}),
        ("Metrics", {"fields": (METRICS[:4], METRICS[4:])}),
    )
    readonly_fields = ("id", "status_label", "created", "updated", *METRICS)

    @admin.action(description="Drain selected pools", permissions=["run_action"])
    def drain_pools(self, request: HttpRequest, rows: QuerySet[Pool]) -> HttpResponse | None:
        return self.run_action(request, rows, lambda id: services.drain_pool(pool_id=id), done="Draining")

    @admin.action(description="Reopen selected pools", permissions=["run_action"])
    def reopen_pools(self, request: HttpRequest, rows: QuerySet[Pool]) -> HttpResponse | None:
        return self.run_action(request, rows, lambda id: services.reopen_pool(pool_id=id), done="Reopened")

    @admin.display(description="status", ordering="status")
    def status_label(self, pool: Pool) -> str:
        return status_badge(pool.status)

    @admin.display(description="created")
    def created(self, pool: Pool) -> str:
        return format_time(pool.created_at)

    @admin.display(description="last change")
    def updated(self, pool: Pool) -> str:
        return format_time(pool.updated_at)
