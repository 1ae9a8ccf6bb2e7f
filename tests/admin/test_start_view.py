"""The admin page that starts a workflow."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client

from orchestration.models import Workflow

pytestmark = pytest.mark.django_db

WORKFLOWS = "/admin/orchestration/workflow/"
START = f"{WORKFLOWS}start/"
EMPTY_FORM = {"workflow": "demo_retry", "prompt": "", "params": "", "pool": "", "key": ""}


def form_errors(response: Any) -> list[str]:
    lists = re.findall(r'<ul class="errorlist[^>]*>(.*?)</ul>', response.content.decode(), re.DOTALL)
    return [html.unescape(error) for each in lists for error in re.findall(r"<li>(.*?)</li>", each)]


def test_form_starts_a_workflow_with_its_values(admin: Client) -> None:
    assert START in admin.get(WORKFLOWS).content.decode()
    page = html.unescape(admin.get(START).content.decode())
    assert "demo_retry(failures=2) Fail `failures` times, wait longer after each failure, and succeed." in page
    values = {"prompt": "Try", "params": '{"failures": 3}', "pool": "elsewhere", "key": "ticket-1"}
    response = admin.post(START, EMPTY_FORM | values)
    (workflow,) = Workflow.objects.all()
    assert (response.status_code, response["Location"]) == (
        302,
        f"{WORKFLOWS}{workflow.pk.replace('_', '_5F')}/change/",
    )
    assert (workflow.prompt, workflow.params, workflow.pool_id) == ("Try", {"failures": 3}, "elsewhere")
    assert (workflow.status, workflow.key) == ("running", "demo_retry:ticket-1")
    assert [(entry.object_id, entry.change_message) for entry in LogEntry.objects.all()] == [(workflow.pk, "Started.")]


def test_empty_fields_use_the_defaults(admin: Client) -> None:
    admin.post(START, EMPTY_FORM)
    (workflow,) = Workflow.objects.all()
    assert (workflow.prompt, workflow.params, workflow.pool_id, workflow.key) == ("", {"failures": 2}, "local", "")


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"workflow": "nothing"}, "Select a valid choice. nothing is not one of the available choices."),
        ({"params": "{"}, "Enter a valid JSON."),
        ({"params": "[1]"}, "Enter a JSON object."),
        ({"params": f'{{"a": {"[" * 100_000}'}, "The JSON is nested too deeply."),
        (
            {"params": '{"failure": 1}'},
            "Cannot start demo_retry: got an unexpected keyword argument 'failure'. Parameters: failures=2.",
        ),
        (
            {"params": '{"workflow_id": "wf_mine"}'},
            "Cannot start demo_retry: 'workflow_id' is not a parameter. Parameters: failures=2.",
        ),
        (
            {"params": '{"failures": "many"}'},
            "Cannot start demo_retry: failures is 'many'; expected int. Parameters: failures=2.",
        ),
        ({"pool": "a pool"}, "pool_id is 'a pool'; expected 1 to 128 of the characters A-Z a-z 0-9 . _ -."),
    ],
)
def test_invalid_values_show_an_error(admin: Client, values: dict[str, str], error: str) -> None:
    response = admin.post(START, EMPTY_FORM | values)
    assert (response.status_code, form_errors(response)) == (200, [error])
    assert not Workflow.objects.exists()


def test_user_without_change_permission_cannot_start_a_workflow() -> None:
    user = User.objects.create_user("reader", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_workflow"))
    reader = Client(headers={"host": "localhost"})
    reader.force_login(user)
    assert START not in reader.get(WORKFLOWS).content.decode()
    assert (reader.get(START).status_code, reader.post(START, EMPTY_FORM).status_code) == (403, 403)
    assert not Workflow.objects.exists()


def test_broken_module_is_shown_and_other_workflows_start(
    admin: Client, settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module = tmp_path / "broken_shop" / "workflows.py"
    module.parent.mkdir()
    module.write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    settings.MAHAVISHNU_APPS = ["broken_shop"]
    response = admin.get(START)
    assert [str(each) for each in response.context["messages"]] == [
        "broken_shop.workflows cannot be imported: ModuleNotFoundError: No module named 'no_such_package' "
        f"({module}, line 1)."
    ]
    assert "demo_retry(failures=2)" in html.unescape(response.content.decode())
    assert admin.post(START, EMPTY_FORM).status_code == 302
    assert Workflow.objects.count() == 1
