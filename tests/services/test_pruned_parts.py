"""What is pruned with a run, and sub-runs that are kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.db import connection, models
from django.db.models import Model
from django.test.utils import CaptureQueriesContext

from orchestration import services
from orchestration.db.clock import database_now
from orchestration.models import (
    STAGE_PARTS,
    ChildRuns,
    EarlyAnswer,
    FailedAttempt,
    Stage,
    StageMap,
    StepRecord,
    StreamContent,
    Wait,
    Worker,
    Workflow,
)
from orchestration.services import retention
from orchestration.services.retention import PruningSweep, RunRetention
from tests.services.builders import workflow_with
from tests.services.signal_recorder import RecordedSignal
from tests.services.test_references import model_with
from tests.services.test_retention import DAY, finish_run, kept, prune

pytestmark = [
    pytest.mark.both_databases,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("valkey"),
]


def store_parts(workflow_id: str) -> None:
    """Store what a run of the engine may have: items, steps, streams, waits, and stages that others have added."""
    stage, added = (
        Stage.objects.create(workflow_id=workflow_id, name=name, position=number)
        for number, name in enumerate(("map", "added"), 10)
    )
    Stage.objects.filter(pk=added.pk).update(added_by=stage)
    StageMap.objects.create(stage=stage, values=[1, 2], total=2, stored=2)
    Stage.objects.bulk_create(
        Stage(workflow_id=workflow_id, name=f"map[{n}]", position=n, item_of=stage, item_index=n) for n in range(2)
    )
    item = Stage.objects.get(workflow_id=workflow_id, name="map[1]")
    at = database_now()
    for each in (added, item):
        content = {"content_type": "text", "content": b"x", "stored_bytes": 1, "length": 1, "sha256": ""}
        StreamContent.objects.create(stage=each, name="answer", attempt=1, **content)
        step = {"arguments_digest": "", "output": 1, "output_bytes": 1, "completed_at": at}
        StepRecord.objects.create(stage=each, name="step", attempt=1, **step)
        Wait.objects.create(workflow_id=workflow_id, stage=each, name="paid", kind="signal", opened_at=at)
    ChildRuns.objects.create(stage=added)
    EarlyAnswer.objects.create(workflow_id=workflow_id, kind="signal", name="paid", answer=1, answered_at=at)


PARTS = (ChildRuns, EarlyAnswer, Stage, StageMap, StepRecord, StreamContent, Wait)


def test_every_table_with_a_key_to_stages_is_listed_as_a_part_or_refers_to_them_only() -> None:
    keys = {relation.related_model for relation in Stage._meta.related_objects}
    assert keys - {Stage, Worker, Workflow} == set(STAGE_PARTS)


def test_grants_of_workers_name_every_part_of_a_stage() -> None:
    operations = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    grant = operations.partition("GRANT SELECT, INSERT, UPDATE")[2].partition(";")[0]
    parts: tuple[type[Model], ...] = (*STAGE_PARTS, EarlyAnswer)
    assert not [part for part in parts if part._meta.db_table not in grant]


@pytest.mark.parametrize("part", [*STAGE_PARTS, EarlyAnswer])
def test_run_is_kept_if_a_row_of_another_application_protects_a_part_of_it(part: type[Model]) -> None:
    finish_run("wf_kept", days_ago=5)
    store_parts("wf_kept")
    stage = Stage.objects.filter(workflow_id="wf_kept")[0]
    FailedAttempt.objects.create(stage=stage, attempt=1, reason="failed", error="It broke")
    with model_with(part=models.ForeignKey(part, on_delete=models.PROTECT, related_name="+")) as note:
        note.objects.create(part=part._base_manager.first())
        assert prune(RunRetention(max_runs=0)) == 0
        assert kept() == ["wf_kept"]


def test_pruned_run_takes_items_streams_waits_and_steps_along_without_a_statement_for_each() -> None:
    for number in range(4):
        finish_run(f"wf_{number}", days_ago=5)
        store_parts(f"wf_{number}")
    finish_run("wf_kept", days_ago=1)
    store_parts("wf_kept")
    with CaptureQueriesContext(connection) as captured:
        assert prune(RunRetention(max_age=2 * DAY)) == 4
    assert kept() == ["wf_kept"]
    for model in PARTS:
        assert model._base_manager.exists(), model
        assert runs_with(model) == {"wf_kept"}, model
    deletions = [query["sql"] for query in captured if query["sql"].startswith("DELETE")]
    assert len(deletions) == len(PARTS) + 3  # Items, failed attempts and workflows have their own.


def runs_with(model: type[Model]) -> set[str]:
    path = "workflow_id" if model in (EarlyAnswer, Stage, Wait) else "stage__workflow_id"
    return set(model._base_manager.values_list(path, flat=True))


def test_finished_sub_run_is_kept_while_its_parent_runs() -> None:
    workflow_with("running", workflow_id="parent")
    finish_run("sub", days_ago=9)
    finish_run("nested", days_ago=9)
    Workflow.objects.filter(pk="sub").update(parent_id="parent", root_id="parent")
    Workflow.objects.filter(pk="nested").update(parent_id="sub", root_id="parent")
    assert prune(RunRetention(max_age=DAY), RunRetention(max_runs=0)) == 1
    assert kept() == ["parent", "sub"]
    services.complete_workflow(workflow_id="parent")
    assert prune(RunRetention(max_runs=0)) == 2


def test_parent_goes_before_its_sub_run_and_stays_named(recorded: list[RecordedSignal]) -> None:
    finish_run("parent", days_ago=9)
    stage = Stage.objects.filter(workflow_id="parent").first() or Stage.objects.create(
        workflow_id="parent", name="starts", position=9
    )
    finish_run("sub", days_ago=1)
    Workflow.objects.filter(pk="sub").update(parent_id="parent", root_id="parent", parent_stage=stage)
    with CaptureQueriesContext(connection) as captured:
        assert prune(RunRetention(max_age=2 * DAY)) == 1
    assert Workflow.objects.values_list("pk", "parent_id").get() == ("sub", "parent")
    # Not through Django's collector, which needs more statements.
    deleted = [query["sql"] for query in captured if query["sql"].startswith('DELETE FROM "orchestration_workflow"')]
    assert len(deleted) == 1


def test_cancelled_parent_is_kept_until_its_sub_runs_are_cancelled() -> None:
    workflow_with("running", workflow_id="parent")
    workflow_with("running", workflow_id="sub")
    Workflow.objects.filter(pk="sub").update(parent_id="parent", root_id="parent")
    Workflow.objects.filter(pk="parent").update(has_children=True)
    services.cancel_workflow(workflow_id="parent")
    assert prune(RunRetention(max_runs=0)) == 0
    assert not services.end_cancellation("parent")
    assert services.cancel_sub_run("sub")
    assert services.end_cancellation("parent")
    assert prune(RunRetention(max_runs=0)) == 2


def test_items_count_as_stages_of_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "MAX_STAGES_PER_TRANSACTION", 12)
    for number in range(3):
        finish_run(f"wf_{number}", days_ago=5)
        store_parts(f"wf_{number}")
    sweep = PruningSweep(RunRetention(max_runs=0))
    assert list(iter(sweep.prune_block, None)) == [1, 1, 1]
