"""Run the items of a stage with `each`: store their rows in blocks, keep some of them in the queue, and end the stage.

The stage waits for its items and holds no slot. An item that ends brings the next one, so at most `limit` items are
queued, running or waiting for a retry at any time. All changes hold the lock of the workflow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from django.db.models import F
from django.db.models.functions import Coalesce, Now

from orchestration import signals
from orchestration.db.compiled import CompiledSelect
from orchestration.models import Stage, StageMap, StageStatus
from orchestration.models.stage import MAX_STAGE_NAME_LENGTH
from orchestration.plan import MAX_EACH_NAME_LENGTH, StagePlan
from orchestration.services.advance import NextStep, advance, complete_stage_of_run
from orchestration.services.map_progress import publish_progress
from orchestration.services.planned_stages import UNSTARTED, planned_stage, pool_of
from orchestration.services.stage_deletion import delete_rows

BLOCK_ITEMS: Final = 500
"""Items whose rows are stored at once. Without a limit, so many are queued or running at most."""

ITEM_STATUSES_TO_RESET: Final = (StageStatus.FAILED, StageStatus.CANCELLED)
"""Items that a retry of the run runs again."""

_COUNTS: Final = (
    *("completed", "failed", "published_completed", "published_failed", "published_running"),
    "dirty_since",
)

assert MAX_EACH_NAME_LENGTH + len("[1000000]") < MAX_STAGE_NAME_LENGTH


def step_behind(stage: Stage, *, at: datetime) -> NextStep:
    """Return what follows on a stage that has just completed or was skipped: the next item, or the next step."""
    if stage.item_of_id is None:
        return advance(stage.workflow, at=at, finished=stage)
    return _after_item(stage, at=at)


def start_items(stage: Stage, values: Sequence[Any], *, at: datetime) -> NextStep:
    """Let a running stage wait for its items, and return the first of them. Without values, complete it.

    Args:
        stage: The stage, locked with its workflow.
        values: The value of each item; JSON.
        at: The time of the change.
    """
    stage_map = StageMap.objects.create(stage=stage, values=list(values), total=len(values), published_at=Now())
    stage.status = StageStatus.WAITING.value
    stage.announces_wait = True
    stage.save_locked(at=at, update_fields=["status"])
    signals.map_started.send(sender=Stage, stage=stage, stage_map=stage_map, at=at)
    if not values:
        return _complete(stage, stage_map, at=at)
    return NextStep(stage.workflow, next_items(stage, stage_map, limit_of(stage)))


def limit_of(stage: Stage) -> int:
    """Return how many items of a stage may be queued or running at once."""
    each = stage.stage_plan.each
    assert each is not None, f"stage {stage} has no items"
    return min(each.limit or BLOCK_ITEMS, BLOCK_ITEMS)


def next_items(stage: Stage, stage_map: StageMap, limit: int) -> list[Stage]:
    """Return the next items that are pending, after storing rows for them if there are none."""
    items = _pending(stage.pk, limit)
    if not items and stage_map.stored < stage_map.total:
        _store_block(stage, stage_map)
        items = _pending(stage.pk, limit)
    for item in items:
        item.workflow = stage.workflow  # The caller read it under lock: avoid another query.
    return items


def continue_items(stage: Stage, stage_map: StageMap, *, at: datetime) -> NextStep:
    """Let a stage wait for its items again, after `reset_items`, and return the next of them.

    Args:
        stage: The stage, locked with its workflow.
        stage_map: Its counts.
        at: The time of the change.
    """
    Stage.objects.filter(pk=stage.pk).update(**{**UNSTARTED, "status": StageStatus.WAITING})
    stage.refresh_from_db(fields=[*UNSTARTED, "pool"])
    signals.map_started.send(sender=Stage, stage=stage, stage_map=stage_map, at=at)
    if stage_map.completed == stage_map.total:
        return _complete(stage, stage_map, at=at)
    return NextStep(stage.workflow, next_items(stage, stage_map, limit_of(stage)))


def reset_items(stage_map: StageMap) -> None:
    """Make the items pending that have failed or were cancelled. Their run has finished."""
    ended = Stage.objects.filter(item_of=stage_map.pk, status__in=ITEM_STATUSES_TO_RESET)
    max_attempts = stage_map.stage.stage_plan.retries.max_attempts
    pool_id = pool_of(stage_map.stage.stage_plan, stage_map.stage.workflow.pool_id)
    stored = ended.update(**UNSTARTED, pool_id=pool_id, last_attempt=F("attempt") + max_attempts)
    stage_map.completed = stage_map.stored - stored
    stage_map.failed = 0
    stage_map.published_completed, stage_map.published_failed, stage_map.published_running = stage_map.completed, 0, 0
    stage_map.dirty_since = None
    stage_map.save(update_fields=_COUNTS)


def remove_items(stage_map: StageMap, *, at: datetime) -> None:
    """Remove the items of a stage of a finished run, with its counts: it finds its values again."""
    pks = Stage.objects.filter(item_of=stage_map.pk).order_by("pk")
    while block := list(pks.values_list("pk", flat=True)[:BLOCK_ITEMS]):
        delete_rows(block, at=at)
    stage_map.delete()


def fail_item(item: Stage, *, error: str, at: datetime) -> tuple[Stage, str] | NextStep:
    """Count an item that has failed for the last time.

    Returns:
        The stage that waits for it, with its error, if more of its items have failed than may. Else what follows.
    """
    stage_map = _count(item, "failed")
    stage = _map_stage(item)
    each = stage.stage_plan.each
    assert each is not None
    allowed = each.max_failed(stage_map.total)
    if stage_map.failed > allowed:
        publish_progress(stage_map, stage, at=at, is_last=True)
        may = "none may" if allowed == 0 else f"at most {allowed} may"
        return stage, f"{stage_map.failed} of {stage_map.total} items failed; {may}. {item.name}: {error}"
    return _after_count(item, stage_map, at=at)


def _after_item(item: Stage, *, at: datetime) -> NextStep:
    # A skipped item counts as a completed one without an output.
    return _after_count(item, _count(item, "completed"), at=at)


def count_unqueued_item(item: Stage, *, at: datetime) -> NextStep:
    """Count an item that was skipped before it was queued. It has left no room for another one."""
    stage_map = _count(item, "completed")
    if stage_map.completed + stage_map.failed == stage_map.total:
        return _complete(_map_stage(item), stage_map, at=at)
    publish_progress(stage_map, None, at=at)
    return NextStep(item.workflow, [])


def _after_count(item: Stage, stage_map: StageMap, *, at: datetime) -> NextStep:
    if stage_map.completed + stage_map.failed == stage_map.total:
        return _complete(_map_stage(item), stage_map, at=at)
    publish_progress(stage_map, None, at=at)
    items = _NEXT_ITEM.rows(item.item_of_id or 0)
    if not items and stage_map.stored < stage_map.total:
        items = next_items(_map_stage(item), stage_map, 1)
    for each in items:
        each.workflow = item.workflow
    return NextStep(item.workflow, items)


def _complete(stage: Stage, stage_map: StageMap, *, at: datetime) -> NextStep:
    publish_progress(stage_map, stage, at=at, is_last=True)
    output = {"total": stage_map.total, "completed": stage_map.completed, "failed": stage_map.failed}
    complete_stage_of_run(stage, output, at=at)
    return advance(stage.workflow, at=at, finished=stage)


def _map_stage(item: Stage) -> Stage:
    """Lock the stage of an item. Its workflow is locked."""
    stage = Stage.objects.select_for_update(no_key=True).get(pk=item.item_of_id or 0)
    stage.workflow = item.workflow
    return stage


def _count(item: Stage, counter: str) -> StageMap:
    """Count an item that has ended, and return the counts. Its values are not loaded."""
    stage_map = _MAP.row(item.item_of_id or 0)
    assert stage_map is not None, f"the stage of item {item} has no map"
    value = getattr(stage_map, counter) + 1
    setattr(stage_map, counter, value)
    StageMap.objects.filter(pk=stage_map.pk).update(**{counter: value, "dirty_since": Coalesce("dirty_since", Now())})
    return stage_map


def _store_block(stage: Stage, stage_map: StageMap) -> None:
    first, last = stage_map.stored, min(stage_map.stored + BLOCK_ITEMS, stage_map.total)
    plan = stage.stage_plan
    rows = [_item(stage, plan, index, stage_map.values[index]) for index in range(first, last)]
    Stage.objects.bulk_create(rows)
    stage_map.stored = last
    StageMap.objects.filter(pk=stage_map.pk).update(stored=last)


def _item(stage: Stage, plan: StagePlan, index: int, value: Any) -> Stage:
    arguments = replace(plan.arguments, positional=(value, *plan.arguments.positional))
    item_plan = replace(plan, name=item_name(stage.name, index), arguments=arguments, each=None, condition="")
    item = planned_stage(stage.workflow, item_plan, position=index)
    item.step = stage.step
    item.item_of = stage
    item.item_index = index
    return item


def item_name(stage_name: str, index: int) -> str:
    """Return the name of an item: `embed[17]`."""
    return f"{stage_name}[{index}]"


def _pending(stage_id: int, limit: int) -> list[Stage]:
    return list(_pending_items(stage_id)[:limit])


def _pending_items(stage_id: int) -> Any:
    pending = Stage.objects.filter(item_of=stage_id, status=StageStatus.PENDING, retry_at=None)
    return pending.select_for_update(no_key=True).order_by("item_index")


_NEXT_ITEM: Final = CompiledSelect(lambda stage_id: _pending_items(stage_id)[:1], int)
_MAP: Final = CompiledSelect(
    lambda stage_id: StageMap.objects.filter(pk=stage_id).annotate(now=Now()).defer("values"), int
)
