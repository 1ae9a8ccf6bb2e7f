"""Pools, each with its metrics and its workers."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from orchestration import services
from orchestration.admin.actions import OperatedAdmin, Operation
from orchestration.admin.formatting import badge, link, moment
from orchestration.admin.read_only import ReadOnlyInline
from orchestration.admin.workers import WorkerCells
from orchestration.models import POOL_COUNTERS, Pool, PoolStatus, Worker

# In the order of the model's columns: first the four of its workers, then the four of its stages.
METRICS = tuple(field.name for field in Pool._meta.fields if field.name in POOL_COUNTERS)


class WorkersOfPool(WorkerCells, ReadOnlyInline):
    model = Worker
    ordering = ("pk",)
    fields = readonly_fields = ("worker", "state", "runs", "since", "heard_of")

    @admin.display(description="worker")
    def worker(self, worker: Worker) -> str:
        return link(Worker, worker.pk)


@admin.register(Pool)
class PoolAdmin(OperatedAdmin):
    list_display = ("id", "state", *METRICS)
    list_filter = ("status",)
    ordering = ("pk",)
    search_fields = ("id__startswith",)
    search_help_text = "The beginning of an id."
    inlines = (WorkersOfPool,)
    actions = ("drain_pools", "reopen_pools")
    operations = (
        Operation(action="drain_pools", label="Drain this pool", status=PoolStatus.DRAINING),
        Operation(action="reopen_pools", label="Reopen this pool", status=PoolStatus.ACTIVE),
    )
    fieldsets = (
        (None, {"fields": ("id", "state", "created", "updated")}),
        ("Metrics", {"fields": (METRICS[:4], METRICS[4:])}),
    )
    readonly_fields = ("id", "state", "created", "updated", *METRICS)

    @admin.action(description="Drain selected pools", permissions=["operate"])
    def drain_pools(self, request: HttpRequest, rows: QuerySet[Pool]) -> HttpResponse | None:
        return self.operate(request, rows, lambda id: services.drain_pool(pool_id=id), done="Draining")

    @admin.action(description="Reopen selected pools", permissions=["operate"])
    def reopen_pools(self, request: HttpRequest, rows: QuerySet[Pool]) -> HttpResponse | None:
        return self.operate(request, rows, lambda id: services.reopen_pool(pool_id=id), done="Reopened")

    @admin.display(description="status", ordering="status")
    def state(self, pool: Pool) -> str:
        return badge(pool.status)

    @admin.display(description="created")
    def created(self, pool: Pool) -> str:
        return moment(pool.created_at)

    @admin.display(description="last change")
    def updated(self, pool: Pool) -> str:
        return moment(pool.updated_at)
