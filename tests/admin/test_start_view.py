"""An operator starts a workflow in the admin."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from django.test import Client

from orchestration.models import Workflow

pytestmark = pytest.mark.django_db

WORKFLOWS = "/admin/orchestration/workflow/"
START = f"{WORKFLOWS}start/"
NOTHING = {"workflow": "demo_retry", "prompt": "", "params": "", "pool": "", "key": ""}


def client_of(user: User) -> Client:
    client = Client(headers={"host": "localhost"})
    client.force_login(user)
    return client


@pytest.fixture
def admin() -> Client:
    return client_of(User.objects.create_superuser("root"))


def errors_of(answer: Any) -> list[str]:
    lists = re.findall(r'<ul class="errorlist[^>]*>(.*?)</ul>', answer.content.decode(), re.DOTALL)
    return [html.unescape(error) for each in lists for error in re.findall(r"<li>(.*?)</li>", each)]


def test_a_workflow_is_started_with_what_the_form_says(admin: Client) -> None:
    assert START in admin.get(WORKFLOWS).content.decode()
    page = html.unescape(admin.get(START).content.decode())
    assert "demo_retry(failures=2) Fail so many times, wait a little longer each time, and then succeed." in page
    given = {"prompt": "Try", "params": '{"failures": 3}', "pool": "elsewhere", "key": "ticket-1"}
    answer = admin.post(START, NOTHING | given)
    (workflow,) = Workflow.objects.all()
    assert (answer.status_code, answer["Location"]) == (302, f"{WORKFLOWS}{workflow.pk.replace('_', '_5F')}/change/")
    assert (workflow.prompt, workflow.params, workflow.pool_id) == ("Try", {"failures": 3}, "elsewhere")
    assert (workflow.status, workflow.key) == ("running", "demo_retry:ticket-1")
    assert [(entry.object_id, entry.change_message) for entry in LogEntry.objects.all()] == [(workflow.pk, "Started.")]


def test_what_is_left_empty_is_not_given(admin: Client) -> None:
    admin.post(START, NOTHING)
    (workflow,) = Workflow.objects.all()
    assert (workflow.prompt, workflow.params, workflow.pool_id, workflow.key) == ("", {}, "local", "")


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"workflow": "nothing"}, "Select a valid choice. nothing is not one of the available choices."),
        ({"params": "{"}, "Enter a valid JSON."),
        ({"params": "[1]"}, "This is no JSON object."),
        ({"params": f'{{"a": {"[" * 100_000}'}, "This is nested too deeply."),
        (
            {"params": '{"failure": 1}'},
            "demo_retry cannot be started so: got an unexpected keyword argument 'failure'; "
            "its parameters are: failures=2.",
        ),
        (
            {"params": '{"workflow_id": "wf_mine"}'},
            "demo_retry cannot be started so: 'workflow_id' is not a parameter; its parameters are: failures=2.",
        ),
        ({"pool": "a pool"}, "pool_id is 'a pool'; expected 1 to 128 of the characters A-Z a-z 0-9 . _ -."),
    ],
)
def test_what_cannot_be_started_is_refused_in_words(admin: Client, given: dict[str, str], error: str) -> None:
    answer = admin.post(START, NOTHING | given)
    assert (answer.status_code, errors_of(answer)) == (200, [error])
    assert not Workflow.objects.exists()


def test_who_may_not_change_workflows_may_not_start_one() -> None:
    person = User.objects.create_user("reader", is_staff=True)
    person.user_permissions.add(Permission.objects.get(codename="view_workflow"))
    reader = client_of(person)
    assert START not in reader.get(WORKFLOWS).content.decode()
    assert (reader.get(START).status_code, reader.post(START, NOTHING).status_code) == (403, 403)
    assert not Workflow.objects.exists()


@pytest.mark.parametrize(
    ("package", "line", "error"),
    [
        ("lacking", "import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("misspelt", "def (:", "SyntaxError: invalid syntax"),
        ("leaving", "raise SystemExit('Set FOO first')", "SystemExit: Set FOO first"),
        ("misled", "__import__('json').loads('?')", "JSONDecodeError: Expecting value: line 1 column 1 (char 0)"),
    ],
)
def test_workflows_that_cannot_be_imported_are_told_of(
    admin: Client,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    package: str,
    line: str,
    error: str,
) -> None:
    module = tmp_path / package / "workflows.py"
    module.parent.mkdir()
    (module.parent / "__init__.py").touch()
    module.write_text(f"from orchestration.sdk import workflow\n\n{line}\n")
    monkeypatch.syspath_prepend(tmp_path)
    settings.MAHAVISHNU_APPS = [package]
    said = f"Workflows cannot be imported: {error} ({module}, line 3)"
    answer = admin.get(START, follow=True)
    assert (answer.redirect_chain, [str(each) for each in answer.context["messages"]]) == ([(WORKFLOWS, 302)], [said])
    with pytest.raises(CommandError) as refusal:
        call_command("run_workflow")
    assert str(refusal.value) == said
