"""The deletion of a stage: it is locked first, and counted and announced afterwards."""

from __future__ import annotations

import copy
from typing import Any

from django.db.models import ProtectedError, QuerySet
from django.db.models.signals import post_delete, pre_delete
from django.dispatch import receiver
from django.utils import timezone

from orchestration import signals
from orchestration.models.pool_counters import PoolCounterDelta
from orchestration.models.stage import Stage
from orchestration.models.statuses import StageStatus
from orchestration.models.worker import Worker

# Signals handle the deletion: neither `QuerySet.delete()` nor a cascade calls `Model.delete()`.


@receiver(pre_delete, sender=Stage, dispatch_uid="orchestration.stage.lock")
def lock_before_delete(instance: Stage, using: str, **_: Any) -> None:
    """Lock the stage, and reject the deletion if the engine still needs it: its run would stop there.

    A worker may still run it, after the end of its workflow. Then the worker runs no stage that is known.
    """
    workers = Worker.objects.using(using).select_for_update(no_key=True).filter(stage_id=instance.pk)
    running = list(workers.order_by("pk"))
    instance._locked_state = instance.lock_row(using)
    workflow = instance.workflow
    if instance._locked_state is not None and workflow.plan is not None and workflow.finished_at is None:
        raise ProtectedError(
            f"Stage {instance} belongs to workflow {workflow.pk} with status {workflow.status}, which the engine runs; "
            "only stages of a finished workflow can be deleted: cancel it first.",
            {instance},
        )
    for worker in running:
        worker.mark_locked()
        worker.stage = None
        worker.save_locked(at=timezone.now(), update_fields=["stage"])


@receiver(post_delete, sender=Stage, dispatch_uid="orchestration.stage.deleted")
def count_after_delete(instance: Stage, using: str, origin: Any, **_: Any) -> None:
    """Count a deleted stage, and announce it unless its workflow is deleted with it."""
    stored, instance._locked_state = instance._locked_state, None
    if stored is None:
        return  # A concurrent transaction deleted it first.
    at = timezone.now()
    model = origin.model if isinstance(origin, QuerySet) else type(origin)
    if model is Stage:  # In a cascade the workflow is deleted too: its counters no longer matter.
        completed = int(stored.status == StageStatus.COMPLETED)
        instance._count_in_workflow(added=-1, completed=-completed, at=at, using=using)
        signals.stage_removed.send(sender=Stage, stage=copy.copy(instance), at=at)
    delta = PoolCounterDelta()
    delta.add_stage(stored.pool_id, stored.status, -1)
    delta.write(at=at, using=using)
