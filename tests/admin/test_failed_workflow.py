"""The page of a workflow that failed: why, where, and how to retry it."""

from __future__ import annotations

import html
import re
import traceback
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from demonstrations import outcomes
from orchestration import services
from orchestration.admin.workflow_failure import place_of
from orchestration.models import Stage, Workflow
from orchestration.models.failed_attempt import FailedAttempt
from orchestration.sdk.launch import launch_by_name
from tests.services.mapped_runs import store_mapped_run

pytestmark = pytest.mark.django_db

WORKFLOWS = "/admin/orchestration/workflow/"
ERROR = "FileNotFoundError: [Errno 2] No such file or directory: 'a file that does not exist'"


def traceback_of(function: Any) -> str:
    try:
        function()
    except Exception:
        return traceback.format_exc()
    raise AssertionError("expected an exception")


def store_failed_run() -> str:
    """Store a run of the demonstration whose second stage fails."""
    workflow_id: str = launch_by_name("demo_failure", prompt="Try", params={}).workflow_id
    prepared = Stage.objects.filter(workflow=workflow_id, name="prepare")
    prepared.update(status="completed", finished_at=timezone.now())
    failed = Stage.objects.get(workflow=workflow_id, name="read_missing_file")
    text = traceback_of(lambda: outcomes.read_missing_file(None, {}))
    FailedAttempt.objects.create(stage=failed, attempt=1, reason="failed", error=ERROR, traceback=text)
    at = timezone.now()
    Stage.objects.filter(pk=failed.pk).update(status="failed", error=ERROR, attempt=1, started_at=at, finished_at=at)
    Stage.objects.filter(workflow=workflow_id, name="tidy_up").update(status="cancelled", finished_at=at)
    Workflow.objects.filter(pk=workflow_id).update(
        status="failed", error=f"Stage read_missing_file failed: {ERROR}", finished_at=at, stages_completed=1
    )
    return workflow_id


def page_of(client: Client, workflow_id: str) -> str:
    return html.unescape(client.get(f"{WORKFLOWS}{workflow_id.replace('_', '_5F')}/change/").content.decode())


def test_page_names_the_stage_that_failed_its_error_and_its_place(admin: Client) -> None:
    workflow_id = store_failed_run()
    page = page_of(admin, workflow_id)
    assert "<h1>demo_failure</h1>" in page and f"<h2>{workflow_id}</h2>" in page
    stage = Stage.objects.get(workflow=workflow_id, name="read_missing_file")
    box = page[page.index('<div class="failure"') : page.index('<div class="row-actions"')]
    assert f'<a href="/admin/orchestration/stage/{stage.pk}/change/">read_missing_file</a>: <code>{ERROR}</code>' in box
    assert re.search(r"<code>outcomes\.py:\d+ in read_missing_file</code>", box)
    assert f"/admin/orchestration/stage/{stage.pk}/change/#failed_attempts-heading" in box
    # What a person looks for comes before the details.
    assert page.index(box) < page.index("stages-heading") < page.index("Details")
    attempts = admin.get(f"/admin/orchestration/stage/{stage.pk}/change/").content.decode()
    assert 'id="failed_attempts-heading"' in attempts and "Traceback (most recent call last)" in attempts


def test_place_is_the_last_line_of_a_users_code() -> None:
    own = '  File "/srv/shop/workflows.py", line 41, in pay'
    library = '  File "/usr/lib/python3.12/json.py", line 9, in x'
    assert place_of(f"{own}\n{library}") == "workflows.py:41 in pay"
    assert place_of(library) == "json.py:9 in x"
    assert place_of("A command has no traceback") == ""


@pytest.mark.both_databases
@pytest.mark.parametrize(
    ("from_stage", "pending"),
    [("", ["read_missing_file", "tidy_up"]), ("prepare", ["prepare", "read_missing_file", "tidy_up"])],
)
def test_retry_button_repeats_a_failed_run(admin: Client, from_stage: str, pending: list[str]) -> None:
    workflow_id = store_failed_run()
    page = page_of(admin, workflow_id)
    assert re.findall(r'<option value="(\w*)">(?:what|from)', page) == ["", "prepare", "read_missing_file", "tidy_up"]
    response = admin.post(
        WORKFLOWS,
        {
            "action": "retry_workflows",
            "_selected_action": workflow_id,
            "index": "0",
            "_from_page": "1",
            "from_stage": from_stage,
        },
    )
    assert response["Location"] == f"{WORKFLOWS}{workflow_id.replace('_', '_5F')}/change/"
    assert Workflow.objects.get().status == "running"
    unfinished = Stage.objects.exclude(status="completed").order_by("position").values_list("name", flat=True)
    assert list(unfinished) == pending
    page = page_of(admin, workflow_id)
    assert f"Retried: {workflow_id}." in page
    assert "Retry this workflow" not in page and "Cancel this workflow" in page


def test_list_action_retries_engine_runs_and_refuses_others(admin: Client) -> None:
    workflow_id = store_failed_run()
    services.create_workflow(workflow_id="elsewhere", adapter="python", prompt="", stages=["only"])
    services.cancel_workflow(workflow_id="elsewhere")
    assert "Retry this workflow" not in page_of(admin, "elsewhere")
    ids = [workflow_id, "elsewhere"]
    response = admin.post(WORKFLOWS, {"action": "retry_workflows", "_selected_action": ids, "index": "0"}, follow=True)
    messages = [str(each) for each in response.context["messages"]]
    assert messages[0] == f"Retried: {workflow_id}."
    assert messages[1].startswith("Refused: workflow_id is 'elsewhere'; expected a workflow that the engine runs")
    assert dict(Workflow.objects.values_list("pk", "status")) == {workflow_id: "running", "elsewhere": "cancelled"}


@pytest.mark.both_databases
def test_retry_button_repeats_only_failed_items(admin: Client) -> None:
    store_mapped_run("mapped", "pool")
    checkbox = '<input type="checkbox" name="failed_items_only"> only failed items'
    assert checkbox in page_of(admin, "mapped")
    other = store_failed_run()
    assert "failed_items_only" not in page_of(admin, other)
    form = {"action": "retry_workflows", "_selected_action": "mapped", "index": "0", "_from_page": "1"}
    admin.post(WORKFLOWS, {**form, "from_stage": "embed", "failed_items_only": "on"})
    statuses = Stage.objects.filter(workflow="mapped").order_by("pk").values_list("name", "status")
    assert dict(statuses) == {
        "embed": "waiting",
        "index": "pending",
        "embed[0]": "completed",
        "embed[1]": "queued",
        "embed[2]": "completed",
    }
