"""Compare stored counters with a recount of the rows."""

from __future__ import annotations

from django.db.models import Count, Q

from orchestration.models import POOL_COUNTERS, Pool, Stage, StageStatus, Worker, WorkerStatus, Workflow

TOTALS = ("tasks_completed", "tasks_failed")
GAUGES = tuple(name for name in POOL_COUNTERS if name not in TOTALS)


def stored(pool_id: str) -> dict[str, int]:
    """Return the stored counters of a pool."""
    pool = Pool.objects.get(pk=pool_id)
    return {name: getattr(pool, name) for name in POOL_COUNTERS}


def counted(pool_id: str) -> dict[str, int]:
    """Recount the counters of a pool. Totals are exact unless a finished stage was deleted or restarted."""
    workers = Worker.objects.filter(pool_id=pool_id)
    stages = Stage.objects.filter(pool_id=pool_id)
    return {
        "worker_count": workers.count(),
        "active_workers": workers.filter(status=WorkerStatus.BUSY).count(),
        "idle_workers": workers.filter(status=WorkerStatus.IDLE).count(),
        "error_workers": workers.filter(status=WorkerStatus.ERROR).count(),
        "queue_size": stages.filter(status=StageStatus.QUEUED).count(),
        "tasks_running": stages.filter(status=StageStatus.RUNNING).count(),
        "tasks_completed": stages.filter(status=StageStatus.COMPLETED).count(),
        "tasks_failed": stages.filter(status=StageStatus.FAILED).count(),
    }


def restore_totals(pool_id: str) -> None:
    """Set the totals of a pool to the recount, after a test has deleted or restarted finished stages in it."""
    totals = counted(pool_id)
    Pool.objects.filter(pk=pool_id).update(**{name: totals[name] for name in TOTALS})


def gauges(counters: dict[str, int]) -> dict[str, int]:
    """Return the counters that describe the current state, without the totals."""
    return {name: counters[name] for name in GAUGES}


def assert_workflows_add_up() -> None:
    """Check the stage counters of every workflow."""
    counted = Q(stages__item_of=None)
    completed = Count("stages", filter=counted & Q(stages__status=StageStatus.COMPLETED))
    for workflow in Workflow.objects.annotate(has=Count("stages", filter=counted), done=completed):
        assert (workflow.total_stages, workflow.stages_completed) == (workflow.has, workflow.done), workflow


def assert_all_add_up() -> None:
    """Check every stored counter of pools and workflows."""
    for pool_id in Pool.objects.values_list("pk", flat=True):
        assert stored(pool_id) == counted(pool_id), pool_id
    assert_workflows_add_up()
