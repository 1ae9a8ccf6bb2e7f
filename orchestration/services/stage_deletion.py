"""Delete stages of a finished run, without the locks, counts and signals of each."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from orchestration.models import STAGE_PARTS, Stage, Worker


def delete_rows(stage_ids: Collection[int], *, at: datetime) -> None:
    """Delete stages that no other stage has as `item_of`. The caller counts and announces that.

    A worker may still run one of them: then it runs no stage that is known. The caller has locked these workers, before
    the workflow.
    """
    for worker in Worker.objects.filter(stage_id__in=stage_ids).order_by("pk"):
        worker.mark_locked().stage = None
        worker.save_locked(at=at, update_fields=["stage"])
    for model in STAGE_PARTS:
        model._base_manager.filter(stage_id__in=stage_ids).delete()
    Stage.objects.filter(added_by_id__in=stage_ids).update(added_by=None)
    rows = Stage.objects.filter(pk__in=stage_ids)
    rows._raw_delete(rows.db)
