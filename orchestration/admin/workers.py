"""The admin of workers."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.admin.views.main import SEARCH_VAR
from django.db.models import F, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html

from orchestration import services
from orchestration.admin.display import format_time, look_badge, row_link, status_badge
from orchestration.admin.filters import PoolFilter, WorkerStatusFilter
from orchestration.admin.paginator import MAX_LISTED
from orchestration.admin.row_actions import RowAction, RowActionsAdmin
from orchestration.admin.statuses import DRAINING
from orchestration.identifiers import is_identifier
from orchestration.models import Pool, Stage, Worker, WorkerStatus
from orchestration.text import ELLIPSIS

_MAX_UNMET_SHOWN: Final = 100


def with_stage_name(workers: QuerySet[Any]) -> QuerySet[Any]:
    """Add `stage_name` to each worker: the name of the stage that it runs."""
    named: QuerySet[Any] = workers.annotate(stage_name=F("stage__name"))
    return named


def count_offline(pool_id: str = "") -> int:
    """Count the workers that are offline, of one pool if it is given; at most `MAX_LISTED`."""
    if pool_id and not is_identifier(pool_id):
        return 0
    offline = Worker.objects.filter(status=WorkerStatus.OFFLINE, **({"pool": pool_id} if pool_id else {}))
    return offline[:MAX_LISTED].count()


def offline_url(pool_id: str = "") -> str:
    """Return the address of the list of workers that are offline, of one pool if it is given."""
    query = {WorkerStatusFilter.parameter_name: WorkerStatus.OFFLINE.value}
    if pool_id:
        query[PoolFilter.parameter_name] = pool_id
    return f"{reverse('admin:orchestration_worker_changelist')}?{urlencode(query)}"


class WorkerColumns:
    """Columns of a worker, shared by the list of workers and the page of a pool."""

    @admin.display(description="status", ordering="status")
    def status_label(self, worker: Worker) -> str:
        drains = worker.draining and worker.status != WorkerStatus.OFFLINE
        badge = status_badge("worker", worker.status, live=f"worker:{worker.pk}")
        return format_html("{} {}", badge, look_badge(DRAINING)) if drains else badge

    @admin.display(description="runs stage")
    def stage_link(self, worker: Any) -> str:
        return row_link(Stage, worker.stage_id, worker.stage_name)

    @admin.display(description="since", ordering="status_changed_at")
    def status_since(self, worker: Worker) -> str:
        return format_time(worker.status_changed_at)

    @admin.display(description="last heartbeat", ordering="last_heartbeat_at")
    def last_heartbeat(self, worker: Worker) -> str:
        return format_time(max(worker.last_heartbeat_at, worker.heartbeat_at or worker.last_heartbeat_at))


@admin.register(Worker)
class WorkerAdmin(WorkerColumns, RowActionsAdmin):
    """Workers of all pools."""

    list_display = ("id", "status_label", "pool_link", "stage_link", "status_since", "last_heartbeat")
    list_filter = (WorkerStatusFilter, PoolFilter)
    ordering = ("pk",)
    search_fields = ("id__startswith",)
    search_help_text = "The beginning of an id."
    actions = ("drain_workers", "mark_workers_offline")
    row_actions = (
        RowAction(name="drain_workers", label="Drain the process of this worker", target_status=WorkerStatus.OFFLINE),
        RowAction(name="mark_workers_offline", label="Mark this worker offline", target_status=WorkerStatus.OFFLINE),
    )
    fields = readonly_fields = (*list_display[1:], "draining", "release", "unmet_requirements", "registered", "process")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return with_stage_name(super().get_queryset(request))

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        pool = request.GET.get(PoolFilter.parameter_name, "")
        are_listed = any(request.GET.get(name) for name in (SEARCH_VAR, WorkerStatusFilter.parameter_name))
        unlisted = 0 if are_listed else count_offline(pool)
        context = {"unlisted_offline": unlisted, "offline_url": offline_url(pool)}
        return super().changelist_view(request, context | (extra_context or {}))

    @admin.action(description="Drain the processes of selected workers", permissions=["run_action"])
    def drain_workers(self, request: HttpRequest, rows: QuerySet[Worker]) -> HttpResponse | None:
        drained: dict[str, Worker] = {}

        def drain(worker_id: str) -> Worker:
            # One call drains all workers of a process.
            if worker_id not in drained:
                drained.update((worker.pk, worker) for worker in services.drain_worker(worker_id=worker_id))
            if worker_id not in drained:  # It has just left.
                raise services.NotDrainable(worker_id, WorkerStatus.OFFLINE)
            return drained[worker_id]

        return self.run_action(request, rows, drain, done="Draining")

    @admin.action(description="Mark selected workers offline", permissions=["run_action"])
    def mark_workers_offline(self, request: HttpRequest, rows: QuerySet[Worker]) -> HttpResponse | None:
        return self.run_action(
            request,
            rows,
            lambda id: services.change_worker_status(worker_id=id, status=WorkerStatus.OFFLINE),
            done="Marked offline",
        )

    @admin.display(description="unmet requirements")
    def unmet_requirements(self, worker: Worker) -> str:
        names = worker.unmet_requirements.order_by("-pk").values_list("name", flat=True)[: _MAX_UNMET_SHOWN + 1]
        more = [ELLIPSIS] if len(names) > _MAX_UNMET_SHOWN else []
        return "; ".join([*names[:_MAX_UNMET_SHOWN], *more])

    @admin.display(description="pool", ordering="pool_id")
    def pool_link(self, worker: Worker) -> str:
        return row_link(Pool, worker.pool_id)

    @admin.display(description="registered")
    def registered(self, worker: Worker) -> str:
        return format_time(worker.registered_at)
