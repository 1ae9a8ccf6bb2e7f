"""Publish the counts of items: at most one event of a stage in `progress_interval_seconds`, and always the last counts.

If a change follows the last event too closely, the scheduler publishes the counts later.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models.functions import Now

from orchestration import signals
from orchestration.limits import engine_limits
from orchestration.models import Stage, StageMap, StageStatus
from orchestration.services import validation


def mark_changed(item: Stage) -> None:
    """Note that the count of running items has changed, for the scheduler to publish."""
    StageMap.objects.filter(pk=item.item_of_id, dirty_since=None).update(dirty_since=Now())


def publish_progress(stage_map: Any, stage: Stage | None, *, at: datetime, is_last: bool = False) -> None:
    """Publish the counts of a stage, unless it is too early for that.

    Args:
        stage_map: Its counts; with `now`, the time of the database, unless they are the last ones.
        stage: The stage; None to read it if needed.
        at: The time of the change.
        is_last: Whether the stage ends now: then it is not too early.
    """
    if not is_last:
        interval = timedelta(seconds=engine_limits().progress_interval_seconds)
        published_at = stage_map.published_at
        if published_at is not None and timedelta() <= stage_map.now - published_at < interval:
            return
    stage = stage or Stage.objects.select_related("workflow").get(pk=stage_map.pk)
    running = 0 if is_last else Stage.objects.filter(item_of=stage, status=StageStatus.RUNNING).count()
    stage_map.published_completed = stage_map.completed
    stage_map.published_failed = stage_map.failed
    stage_map.published_running = running
    StageMap.objects.filter(pk=stage_map.pk).update(
        published_completed=stage_map.completed,
        published_failed=stage_map.failed,
        published_running=running,
        published_at=Now(),
        dirty_since=None,
    )
    signals.map_progressed.send(sender=Stage, stage=stage, stage_map=stage_map, at=at)


def publish_map_progress(stage_id: int, *, at: datetime | None = None) -> bool:
    """Publish the throttled counts of a stage. Return False if they are published already."""
    at = validation.timestamp(at)
    with transaction.atomic():
        stage = Stage.objects.select_related("workflow").select_for_update(no_key=True, of=("workflow", "self"))
        found = stage.filter(pk=stage_id, status=StageStatus.WAITING).first()
        dirty = StageMap.objects.filter(pk=stage_id, dirty_since__isnull=False).annotate(now=Now()).defer("values")
        stage_map = dirty.first()
        if stage_map is None:
            return False
        if found is None:  # Its run has ended: clients derive the end of its items.
            StageMap.objects.filter(pk=stage_id).update(dirty_since=None)
            return False
        publish_progress(stage_map, found, at=at)
    return True
