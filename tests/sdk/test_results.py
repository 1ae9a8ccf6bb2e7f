"""`ctx.results`: which outputs it reads, and when."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from orchestration import services
from orchestration.models import Stage
from orchestration.sdk.results import Results
from tests.services.builders import workflow_with

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True)]

COMPLETED = [f"part_{number}" for number in range(Results.MAX_SINGLE_READS + 8)]


@pytest.fixture
def results() -> Results:
    """Return the results of a run with one running stage and more completed ones than are read one by one."""
    workflow_with(stages=[*COMPLETED, "running"])
    for number, name in enumerate(COMPLETED):
        services.complete_stage(workflow_id="wf", stage_name=name, result={"output": number})
    return Results("wf", lambda query: query())


@contextmanager
def reads(*, rows: int, queries: int = 1) -> Iterator[None]:
    """Check how many queries the block makes, and how many rows they return."""
    with CaptureQueriesContext(connection) as captured:
        yield
    assert len(captured) == queries
    returned = 0
    with connection.cursor() as cursor:
        for query in captured:
            cursor.execute(query["sql"])
            returned += len(cursor.fetchall())
    assert returned == rows


def test_one_output_is_read_alone_and_once(results: Results) -> None:
    with reads(rows=1):
        assert (results["part_3"], results.get("part_3"), "part_3" in results) == (3, 3, True)
    with reads(rows=0):
        assert "running" not in results
    with reads(rows=0), pytest.raises(KeyError, match="unknown"):
        results["unknown"]


def test_names_are_read_without_outputs(results: Results) -> None:
    with CaptureQueriesContext(connection) as captured:
        assert list(results) == COMPLETED
        assert len(results) == len(COMPLETED)
        assert "unknown" not in results
    (query,) = captured
    assert '"result"' not in query["sql"]


def test_iteration_reads_all_outputs_at_once(results: Results) -> None:
    with reads(rows=2 * len(COMPLETED), queries=2):
        assert dict(results) == {name: number for number, name in enumerate(COMPLETED)}
    with reads(rows=0, queries=0):
        assert list(results.values()) == list(range(len(COMPLETED)))
        assert results.get("unknown") is None


def test_many_single_reads_become_one_read_of_all(results: Results) -> None:
    single = Results.MAX_SINGLE_READS
    with reads(rows=single + len(COMPLETED), queries=single + 1):
        assert [results[name] for name in COMPLETED] == list(range(len(COMPLETED)))
        assert results.get("unknown") is None


def test_stages_that_complete_after_the_names_were_read_are_not_included(results: Results) -> None:
    assert len(results) == len(COMPLETED)
    services.complete_stage(workflow_id="wf", stage_name="running", result={"output": "late"})
    assert len(dict(results)) == len(results) == len(COMPLETED)
    assert "running" not in results
    assert Results("wf", lambda query: query())["running"] == "late"
    assert Stage.objects.filter(status="completed").count() == len(COMPLETED) + 1
