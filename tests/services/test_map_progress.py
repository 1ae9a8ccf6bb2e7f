"""The counts of items: an event of a map reads only its running items, however many have ended."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from orchestration import services
from orchestration.models import Stage, StageMap, Workflow
from tests.harness.query_plans import collect_statistics, explain

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]

ENDED, RUNNING = 2000, 3


@pytest.fixture
def late_map(pool_id: str) -> Iterator[Stage]:
    """Store a map of which most items have ended, and some run; roll all back."""
    with transaction.atomic():
        at = timezone.now()
        workflow = Workflow.objects.create(id="map", adapter="python", pool_id=pool_id)
        stage = Stage(workflow=workflow, name="m", position=0, status="waiting")
        Stage.objects.bulk_create([stage])
        ended = {"status": "completed", "finished_at": at}
        running = {"status": "running", "started_at": at}
        Stage.objects.bulk_create(
            Stage(
                workflow=workflow,
                item_of=stage,
                name=f"m[{index}]",
                position=index,
                item_index=index,
                **(ended if index < ENDED else running),
            )
            for index in range(ENDED + RUNNING)
        )
        count = ENDED + RUNNING
        StageMap.objects.create(stage=stage, total=count, stored=count, completed=ENDED, dirty_since=at)
        collect_statistics()
        yield stage
        transaction.set_rollback(True)


def test_running_items_are_counted_by_a_separate_index(late_map: Stage) -> None:
    with CaptureQueriesContext(connection) as captured:
        assert services.publish_map_progress(late_map.pk)
    assert StageMap.objects.get().published_running == RUNNING
    (statement,) = (query["sql"] for query in captured if "COUNT(" in query["sql"])
    assert "orchestration_stage_run_items" in explain(statement)
