"""The searches that a scheduler repeats in each pass, on SQLite: they read only what is due."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from orchestration.db.clock import database_now
from orchestration.scheduler import due_select
from tests.harness.query_plans import explain


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("select", "index"),
    [
        (due_select.DUE_WAITS, "orchestration_wait_due"),
        (due_select.DUE_RETRIES, "orchestration_stage_retry"),
        (due_select.RUNS_TO_HOLD, "orchestration_stage_dispatch"),
        (due_select.LATE_WORKFLOWS, "orchestration_workflow_due"),
    ],
)
def test_search_of_each_pass_reads_due_rows_only(select: due_select.RowSelect[Any], index: str) -> None:
    """However many runs wait: SQLite prefers an index that begins with an equal column to a range of another one."""
    with CaptureQueriesContext(connection) as captured:
        select.rows(database_now())
    plan = explain(captured[-1]["sql"])
    assert plan.startswith("SEARCH") and index in plan.partition(";")[0], plan
