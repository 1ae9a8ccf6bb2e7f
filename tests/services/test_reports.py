"""Tests of `orchestration.services.reports`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, Phase, given, settings

from orchestration import services
from orchestration.db import before_commit
from orchestration.models import (
    FailedAttempt,
    FailureReason,
    Pool,
    PoolStatus,
    Stage,
    StageStatus,
    Worker,
    Workflow,
    WorkflowStatus,
)
from orchestration.reporter import reporting_as
from orchestration.services.report_types import (
    AttemptFailure,
    CreationNotAllowed,
    EngineOwned,
    PoolMetricsReport,
    PoolReport,
    Report,
    ReportedByOther,
    ReportedStage,
    RunReport,
    StageMessage,
    StageReport,
    WorkerRemoval,
    WorkerReport,
)
from orchestration.services.reports import ReportRefused, apply_reports
from tests.harness.database import delete_rows
from tests.services.reported import announced, apply_with_services, at, report_lists, stored_state

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True)]


def run(status: str, seconds: int = 0, workflow_id: str = "wf", **fields: Any) -> RunReport:
    fields.setdefault("adapter", "airflow")
    return RunReport(at=at(seconds), workflow_id=workflow_id, status=WorkflowStatus(status), **fields)


def stage(status: str, seconds: int = 0, name: str = "a", workflow_id: str = "wf", **fields: Any) -> StageReport:
    return StageReport(at=at(seconds), workflow_id=workflow_id, stage_name=name, status=StageStatus(status), **fields)


def refused(*reports: Report, **options: Any) -> list[Any]:
    with reporting_as("airflow"):
        return apply_reports(list(reports), all_or_nothing=False, **options)


def compare_with_services(reports: list[Report]) -> None:
    with reporting_as("airflow"):
        delete_rows()
        with before_commit.recorded() as items:
            expected = [apply_with_services(report) for report in reports]
        expected_state, expected_events = stored_state(), announced(items())
        delete_rows()
        with before_commit.recorded() as items:
            # Rows of the first part are stored, those of the second are new.
            half = len(reports) // 2
            outcomes = apply_reports(reports[:half], all_or_nothing=False)
            outcomes += apply_reports(reports[half:], all_or_nothing=False)
        assert [(type(each), str(each)) for each in outcomes] == [(type(each), str(each)) for each in expected]
        assert announced(items()) == expected_events
        assert stored_state() == expected_state


@pytest.mark.parametrize("examples", [10, pytest.param(1000, marks=pytest.mark.chaos)])
def test_reports_in_few_transactions_equal_calls_of_the_services(examples: int) -> None:
    @settings(
        max_examples=examples,
        derandomize=examples == 10,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(report_lists())
    def compare(reports: list[Report]) -> None:
        compare_with_services(reports)

    compare()


def test_reports_create_what_is_not_known() -> None:
    with reporting_as("airflow"):
        apply_reports(
            [
                run("running", pool_id="p", stages=(ReportedStage(name="a", step=1, last_attempt=3),)),
                stage("running", 1),
                stage("completed", 2, name="unlisted", result={"output": "Success"}),
                WorkerReport(at=at(3), worker_id="w", status="busy", pool_id="q"),
            ]
        )
    workflow = Workflow.objects.get()
    assert (workflow.status, workflow.total_stages, workflow.stages_completed) == ("running", 2, 1)
    assert list(Stage.objects.order_by("position").values_list("name", "step", "last_attempt", "status")) == [
        ("a", 1, 3, "running"),
        ("unlisted", 0, 1, "completed"),
    ]
    assert set(Pool.objects.values_list("pk", "tasks_running", "active_workers")) == {("p", 1, 0), ("q", 0, 1)}
    for model in (Workflow, Pool, Worker):
        assert set(model.objects.values_list("reported_by", flat=True)) == {"airflow"}


def test_reports_refuse_what_belongs_to_this_installation() -> None:
    workflow = services.create_workflow(workflow_id="ours", adapter="python", prompt="", stages=["a"])
    Workflow.objects.update(plan={"stages": []})
    services.join_pool(name="box", process="x", pool_id="p")
    outcomes = refused(
        run("running", workflow_id="ours"),
        stage("completed", workflow_id="ours"),
        WorkerReport(at=at(0), worker_id="box-1", status="busy", pool_id="p"),
        PoolReport(at=at(0), pool_id="p", status=PoolStatus.DRAINING),
        PoolMetricsReport(at=at(0), pool_id="p", counters={"queue_size": 3}),
    )
    assert [type(outcome) for outcome in outcomes] == [
        *(EngineOwned, EngineOwned),
        *(services.EngineWorker, EngineOwned, EngineOwned),
    ]
    workflow.refresh_from_db()
    assert (workflow.status, Pool.objects.get().metrics_reported) == ("pending", False)


def test_reports_that_are_refused_change_nothing_with_all_or_nothing() -> None:
    with before_commit.recorded() as items, pytest.raises(ReportRefused) as error:
        apply_reports([run("running"), stage("completed", name="")])
    assert (error.value.index, type(error.value.error)) == (1, services.InvalidArgument)
    assert (Workflow.objects.count(), announced(items())) == (0, [])


def test_reports_without_the_permission_create_no_pool_and_no_worker() -> None:
    with reporting_as("airflow"):
        apply_reports([PoolReport(at=at(0), pool_id="known", status=PoolStatus.ACTIVE, is_new=True)])
    outcomes = refused(
        PoolReport(at=at(0), pool_id="new", status=PoolStatus.ACTIVE, is_new=True),
        WorkerReport(at=at(0), worker_id="w", status="idle", pool_id="known"),
        run("running", pool_id="new"),
        run("running", pool_id="known", workflow_id="other"),
        may_create=lambda pool_id: False,
    )
    assert [type(outcome) for outcome in outcomes] == [*[CreationNotAllowed] * 3, bool]
    assert (Pool.objects.count(), Worker.objects.count(), Workflow.objects.count()) == (1, 0, 1)


def test_reports_change_only_what_the_reporter_may_change() -> None:
    services.create_workflow(workflow_id="wf", adapter="other", prompt="", stages=["a"])
    services.start_workflow(workflow_id="wf")
    services.create_pool(pool_id="p")
    services.register_worker(worker_id="w", pool_id="p")
    which: dict[str, Any] = {"at": at(9), "workflow_id": "wf", "stage_name": "a"}
    outcomes = refused(
        *(run("failed"), stage("running"), AttemptFailure(**which, error=""), StageMessage(**which, message="m")),
        *(WorkerReport(at=at(9), worker_id="w", status="busy", pool_id="p"), WorkerRemoval(at=at(9), worker_id="w")),
        *(run("running", workflow_id="own"), stage("running", workflow_id="own", worker_id="w")),
        may_change=lambda reported_by: reported_by == "airflow",
    )
    assert [type(outcome) for outcome in outcomes] == [*[ReportedByOther] * 6, *[bool] * 2]
    assert str(outcomes[0]) == "Workflow wf was not reported by airflow, which cannot change it."
    assert (Workflow.objects.get(pk="wf").status, Worker.objects.get().status) == ("running", "idle")


def test_refused_report_may_be_replaced() -> None:
    def instead(report: Report, error: services.ServiceError) -> Report | None:
        if isinstance(report, StageReport) and isinstance(error, services.WorkerNotFound):
            return replace(report, worker_id=None)
        return None

    outcomes = refused(run("running"), stage("running", worker_id="w"), stage("queued"), instead=instead)
    assert [type(outcome) for outcome in outcomes] == [bool, bool, services.IllegalTransition]
    assert Stage.objects.get().status == "running"


def test_reported_stage_may_be_in_another_pool_than_its_run() -> None:
    reports: list[Report] = [run("running", pool_id="p", stages=(ReportedStage(name="a"),))]
    reports += [stage("queued", 1), stage("queued", 2, name="b", pool_id="q"), stage("running", 3, pool_id="q")]
    compare_with_services(reports)
    assert list(Stage.objects.order_by("position").values_list("name", "pool_id", "status")) == [
        ("a", "p", "running"),
        ("b", "q", "queued"),
    ]
    (outcome,) = refused(stage("queued", 4, name="c", pool_id="new"), may_create=lambda pool_id: False)
    assert (type(outcome), Stage.objects.count(), Pool.objects.count()) == (CreationNotAllowed, 2, 2)


def test_reported_failure_of_an_attempt_queues_its_stage_again() -> None:
    failures = [
        AttemptFailure(at=at(number), workflow_id="wf", stage_name=name, error=f"{number}", reason=FailureReason.LOST)
        for number, name in ((3, "a"), (4, "unlisted"), (5, "a"))
    ]
    compare_with_services([run("running", stages=(ReportedStage(name="a"),)), stage("running", 2), *failures])
    attempts = FailedAttempt.objects.order_by("ended_at").values_list("stage__name", "attempt", "error", "reason")
    assert list(attempts) == [("a", 1, "3", "lost"), ("unlisted", 1, "4", "lost"), ("a", 2, "5", "lost")]
    stored = set(Stage.objects.values_list("name", "status", "attempt"))
    assert stored == {("a", "queued", 2), ("unlisted", "queued", 1)}


def test_reported_metrics_are_stored_and_no_longer_counted() -> None:
    counters = {"active_workers": 5, "idle_workers": 2, "queue_size": 10, "tasks_completed": 150}
    with reporting_as("airflow"):
        apply_reports([PoolMetricsReport(at=at(0), pool_id="p", counters=counters)])
        with before_commit.recorded() as items:
            outcomes = apply_reports(
                [
                    PoolMetricsReport(at=at(1), pool_id="p", counters=counters),
                    run("running", pool_id="p", stages=(ReportedStage(name="a"),)),
                    stage("queued"),
                    WorkerReport(at=at(3), worker_id="w", status="busy", pool_id="p"),
                ]
            )
    assert outcomes == [False, True, True, True]
    stored = Pool.objects.values(*counters, "worker_count", "tasks_running", "metrics_dirty_since").get()
    assert stored == {**counters, "worker_count": 7, "tasks_running": 0, "metrics_dirty_since": None}
    assert [item for item in items() if getattr(item, "name", "") == "pool.status_changed"] == []


def test_reports_take_as_many_statements_for_many_as_for_few() -> None:
    def statements(count: int) -> int:
        reports = [
            report
            for number in range(count)
            for report in (
                run("running", workflow_id=f"{count}-{number}", pool_id="p", stages=(ReportedStage(name="a"),)),
                stage("running", workflow_id=f"{count}-{number}"),
            )
        ]
        ends = [stage("completed", workflow_id=f"{count}-{number}") for number in range(count)]
        with reporting_as("airflow"), CaptureQueriesContext(connection) as queries:
            apply_reports(reports)
            apply_reports(ends)
        return len(queries)

    statements(1)
    # On SQLite, the driver executes one statement for each row that is updated; Django captures it once. A further one
    # gets the keys of more than ten new rows.
    assert statements(50) == statements(20) == statements(2) + (connection.vendor == "sqlite")


def test_reported_worker_may_leave_and_come_back_in_one_transaction() -> None:
    def worker(status: str, seconds: int, *, is_registration: bool = False) -> WorkerReport:
        return WorkerReport(at=at(seconds), worker_id="w", status=status, pool_id="p", is_registration=is_registration)

    reports: list[Report] = [worker("offline", 0), worker("busy", 1, is_registration=True), worker("idle", 2)]
    compare_with_services(reports)
    assert list(Worker.objects.values_list("pk", "status")) == [("w", "idle")]


@pytest.mark.parametrize("end", ["completed", "failed", "cancelled", "timeout"])
def test_reported_end_of_a_run_ends_its_stages(end: str) -> None:
    stages = tuple(ReportedStage(name=name) for name in "abc")
    reports: list[Report] = [run("pending", pool_id="p1", stages=stages), run("running", 1), stage("queued", 2)]
    reports += [stage("running", 3), stage("completed", 4, name="b"), run(end, 5, error="It broke")]
    compare_with_services(reports)
    assert Stage.objects.filter(finished_at=None).count() == 0
