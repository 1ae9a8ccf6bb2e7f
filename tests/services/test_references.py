"""Pruning of runs that rows of another application refer to."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import connection, models
from pytest_django import Settings

from orchestration.db.clock import database_now
from orchestration.limits import EngineLimits, engine_limits
from orchestration.models import FailedAttempt, Stage, StepRecord, Workflow
from orchestration.scheduler import Scheduler
from orchestration.scheduler import retention as scheduler_retention
from orchestration.services import retention as services_retention
from orchestration.services.retention import PruningSweep, RunRetention
from tests.services.builders import workflow_with

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]

APP = "demonstrations"


@contextmanager
def model_with(**fields: models.Field[Any, Any]) -> Iterator[Any]:
    """Define a model of another application, with its table."""
    meta = type("Meta", (), {"app_label": APP})
    model: Any = type("Note", (models.Model,), {"__module__": __name__, "Meta": meta, **fields})
    try:
        with connection.schema_editor() as editor:
            editor.create_model(model)
        try:
            yield model
        finally:
            model._base_manager.all().delete()
            with connection.schema_editor() as editor:
                editor.delete_model(model)
    finally:
        for name in [name for name in apps.all_models[APP] if name.startswith("note")]:
            del apps.all_models[APP][name]
        apps.clear_cache()


def run_key(on_delete: Callable[..., None], **options: Any) -> models.Field[Any, Any]:
    return models.ForeignKey(Workflow, on_delete=on_delete, null=True, related_name="+", **options)


def finish_runs(number: int = 3, *, first: int = 0) -> None:
    for each in range(first, first + number):
        workflow_with("completed", workflow_id=f"wf_{each}")


def prune() -> PruningSweep:
    sweep = PruningSweep(RunRetention(max_runs=0))
    while sweep.prune_block() is not None:
        pass
    return sweep


def kept() -> list[str]:
    return sorted(Workflow.objects.values_list("pk", flat=True))


@pytest.mark.parametrize(
    ("on_delete", "runs", "notes", "reason"),
    [
        (models.PROTECT, ["wf_1"], ["wf_1"], ""),
        (models.CASCADE, [], [], ""),
        (models.SET_NULL, [], [None], ""),
        (models.RESTRICT, ["wf_1"], ["wf_1"], "wf_1 (Cannot delete some instances of model 'Workflow'"),
        (models.DO_NOTHING, ["wf_1"], ["wf_1"], "wf_1 ("),
    ],
)
def test_on_delete_of_a_foreign_key_to_a_run_applies(
    on_delete: Callable[..., None], runs: list[str], notes: list[str | None], reason: str
) -> None:
    with model_with(run=run_key(on_delete)) as note:
        finish_runs()
        note.objects.create(run_id="wf_1")
        sweep = prune()
        assert kept() == runs
        assert list(note.objects.values_list("run_id", flat=True)) == notes
        assert Stage.objects.count() == 3 * len(runs)
        assert sweep.undeletable.startswith(reason)
        assert sweep.undeletable_count == int(reason != "")


@pytest.mark.parametrize(("on_delete", "runs"), [(models.PROTECT, ["wf_1"]), (models.SET_NULL, [])])
def test_on_delete_of_foreign_keys_to_stages_and_attempts_applies(
    on_delete: Callable[..., None], runs: list[str]
) -> None:
    keys = {
        "stage": models.ForeignKey(Stage, on_delete=on_delete, null=True, related_name="+"),
        "attempt": models.ForeignKey(FailedAttempt, on_delete=on_delete, null=True, related_name="+"),
        "step": models.ForeignKey(StepRecord, on_delete=on_delete, null=True, related_name="+"),
    }
    with model_with(**keys) as note:
        finish_runs(5)
        for name, key in (("wf_1", "stage"), ("wf_2", "attempt"), ("wf_3", "step")):
            stage = Stage.objects.filter(workflow_id=name).first()
            assert stage is not None
            attempt = FailedAttempt.objects.create(stage=stage, attempt=1, reason="failed", error="It broke")
            step = StepRecord.objects.create(stage=stage, name="ask", attempt=1, output_bytes=4)
            note.objects.create(**{key: {"stage": stage, "attempt": attempt, "step": step}[key]})
        protected = [*runs, "wf_2", "wf_3"] if runs else []
        assert prune().undeletable == ""
        assert kept() == protected
        assert note.objects.filter(stage=None, attempt=None, step=None).count() == (0 if runs else 3)


def test_run_that_cannot_be_deleted_hides_no_other(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    settings.MAHAVISHNU_ENGINE = EngineLimits(max_finished_runs=1)
    with model_with(run=run_key(models.RESTRICT)) as note:
        finish_runs(9)
        note.objects.create(run_id="wf_0")
        note.objects.create(run_id="wf_6")
        scheduler = Scheduler()
        with caplog.at_level(logging.WARNING):
            assert [scheduler.prune_runs(database_now()) for _ in range(3)] == [6, 0, 0]
        assert kept() == ["wf_0", "wf_6", "wf_8"]
        [line] = [record.message for record in caplog.records if "finished runs" in record.message]
        assert line.startswith("Cannot delete 2 finished runs, such as wf_0 (Cannot delete some instances of model")
        assert line.endswith("; the scheduler tries again in an hour")
        assert scheduler._failures.stuck_jobs() == []
        with pytest.raises(CommandError, match="Cannot delete 2 finished runs, such as wf_0 "):
            call_command("prune_runs", "--keep", "1")


@pytest.mark.parametrize(("max_undeletable", "left"), [(1000, ["wf_0", "wf_8"]), (1, ["wf_0", "wf_7", "wf_8"])])
def test_run_that_cannot_be_deleted_delays_no_later_pruning(
    settings: Settings,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    max_undeletable: int,
    left: list[str],
) -> None:
    settings.MAHAVISHNU_ENGINE = EngineLimits(max_finished_runs=1)
    for module in (services_retention, scheduler_retention):
        monkeypatch.setattr(module, "MAX_UNDELETABLE_RUNS", max_undeletable)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    pruning = scheduler_retention.run_pruning(engine_limits())

    def pass_seconds(seconds: float) -> None:
        """Prune all that is due after this time."""
        nonlocal now
        now += seconds
        for _ in range(3):
            pruning.prune_block()

    def warnings() -> list[str]:
        return [record.message.split(" (")[0] for record in caplog.records if "finished runs" in record.message]

    warning = "Cannot delete 1 finished runs, such as wf_0"
    with model_with(run=run_key(models.RESTRICT)) as note, caplog.at_level(logging.WARNING):
        finish_runs(8)
        note.objects.create(run_id="wf_0")
        pass_seconds(0)
        assert (kept(), warnings()) == (["wf_0", "wf_7"], [warning])
        finish_runs(1, first=8)
        pass_seconds(scheduler_retention.PRUNING_INTERVAL_SECONDS)
        # With more of them than it can remember, the scheduler prunes once an hour.
        assert (kept(), warnings()) == (left, [warning])
        pass_seconds(scheduler_retention.UNDELETABLE_INTERVAL_SECONDS)
        assert (kept(), warnings()) == (["wf_0", "wf_8"], [warning] * 2)
        note.objects.all().delete()
        pass_seconds(scheduler_retention.UNDELETABLE_INTERVAL_SECONDS)
        assert (kept(), warnings()) == (["wf_8"], [warning] * 2)


def test_run_that_two_retentions_cannot_delete_counts_once() -> None:
    with model_with(run=run_key(models.RESTRICT)) as note:
        finish_runs(2)
        note.objects.create(run_id="wf_0")
        sweep = PruningSweep(RunRetention(max_runs=0), RunRetention(max_runs=1))
        while sweep.prune_block() is not None:
            pass
        assert (kept(), sweep.undeletable_count) == (["wf_0"], 1)


def test_receiver_that_fails_keeps_its_run_only() -> None:
    def fail(instance: Workflow, **_: Any) -> None:
        if instance.pk == "wf_1":
            raise KeyError("gone\nby design")

    with model_with(run=run_key(models.CASCADE)) as note:
        finish_runs()
        for name in ("wf_1", "wf_2"):
            note.objects.create(run_id=name)
        models.signals.pre_delete.connect(fail, sender=Workflow)
        try:
            sweep = prune()
        finally:
            models.signals.pre_delete.disconnect(fail, sender=Workflow)
        assert (kept(), sweep.undeletable) == (["wf_1"], "wf_1 (gone by design)")
