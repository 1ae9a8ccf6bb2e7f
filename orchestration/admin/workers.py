"""Workers, wherever they are."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from orchestration import services
from orchestration.admin.actions import OperatedAdmin, Operation
from orchestration.admin.filters import PoolFilter
from orchestration.admin.formatting import badge, link, moment
from orchestration.models import Pool, Stage, Worker, WorkerStatus


class WorkerCells:
    """What a worker's row says, wherever it is shown."""

    @admin.display(description="status", ordering="status")
    def state(self, worker: Worker) -> str:
        return badge(worker.status)

    @admin.display(description="runs stage")
    def runs(self, worker: Worker) -> str:
        return link(Stage, worker.stage_id)

    @admin.display(description="status since", ordering="status_changed_at")
    def since(self, worker: Worker) -> str:
        return moment(worker.status_changed_at)

    @admin.display(description="last heard of", ordering="last_heartbeat_at")
    def heard_of(self, worker: Worker) -> str:
        return moment(max(worker.last_heartbeat_at, worker.heartbeat_at or worker.last_heartbeat_at))


@admin.register(Worker)
class WorkerAdmin(WorkerCells, OperatedAdmin):
    list_display = ("id", "state", "in_pool", "runs", "since", "heard_of")
    list_filter = ("status", PoolFilter)
    ordering = ("pk",)
    search_fields = ("id__startswith",)
    search_help_text = "The beginning of an id."
    actions = ("mark_workers_offline",)
    operations = (
        Operation(action="mark_workers_offline", label="Mark this worker offline", status=WorkerStatus.OFFLINE),
    )
    fields = readonly_fields = ("id", "state", "in_pool", "runs", "since", "heard_of", "registered", "process")

    @admin.action(description="Mark selected workers offline", permissions=["operate"])
    def mark_workers_offline(self, request: HttpRequest, rows: QuerySet[Worker]) -> HttpResponse | None:
        return self.operate(
            request,
            rows,
            lambda id: services.change_worker_status(worker_id=id, status=WorkerStatus.OFFLINE),
            done="Marked offline",
        )

    @admin.display(description="pool", ordering="pool_id")
    def in_pool(self, worker: Worker) -> str:
        return link(Pool, worker.pool_id)

    @admin.display(description="registered")
    def registered(self, worker: Worker) -> str:
        return moment(worker.registered_at)
