"""The admin page that starts a workflow."""

from __future__ import annotations

import enum
import html
import re
from typing import Annotated, Any

import msgspec
import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client, override_settings

from orchestration.admin.parameter_fields import parameter_fields
from orchestration.admin.start_view import StartForm
from orchestration.models import Workflow
from orchestration.sdk.parameter_schema import parameters_schema
from orchestration.sdk.workflow import WorkflowDefinition
from tests.harness.engine_fixtures import WritePackages

pytestmark = pytest.mark.django_db

WORKFLOWS = "/admin/orchestration/workflow/"
START = f"{WORKFLOWS}start/"
RETRY = f"{START}?workflow=demo_retry"
DEEP = f'{{"a": {"[" * 100_000}'
EMPTY_FORM = {"prompt": "", "param_failures": "", "pool": "", "key": ""}


def form_errors(response: Any) -> list[str]:
    lists = re.findall(r'<ul class="errorlist[^>]*>(.*?)</ul>', response.content.decode(), re.DOTALL)
    return [html.unescape(error) for each in lists for error in re.findall(r"<li>(.*?)</li>", each)]


def test_form_starts_a_workflow_with_its_values(admin: Client) -> None:
    assert START in admin.get(WORKFLOWS).content.decode()
    page = html.unescape(admin.get(START).content.decode())
    assert (
        '<a href="?workflow=demo_retry">demo_retry</a></th><td><code>failures=2</code></td>'
        "<td>Fail `failures` times, wait longer after each failure, and succeed.</td>"
    ) in page
    values = {"prompt": "Try", "param_failures": "3", "pool": "elsewhere", "key": "ticket-1"}
    response = admin.post(RETRY, EMPTY_FORM | values)
    (workflow,) = Workflow.objects.all()
    assert (response.status_code, response["Location"]) == (
        302,
        f"{WORKFLOWS}{workflow.pk.replace('_', '_5F')}/change/",
    )
    assert (workflow.prompt, workflow.params, workflow.pool_id) == ("Try", {"failures": 3}, "elsewhere")
    assert (workflow.status, workflow.key) == ("running", "demo_retry:ticket-1")
    assert [(entry.object_id, entry.change_message) for entry in LogEntry.objects.all()] == [(workflow.pk, "Started.")]


@pytest.mark.parametrize("shown", ["", "2"])
def test_empty_and_unchanged_fields_use_the_defaults(admin: Client, shown: str) -> None:
    assert 'name="param_failures" value="2"' in admin.get(RETRY).content.decode()
    admin.post(RETRY, EMPTY_FORM | {"param_failures": shown})
    (workflow,) = Workflow.objects.all()
    assert (workflow.prompt, workflow.params, workflow.pool_id, workflow.key) == ("", {"failures": 2}, "local", "")
    assert (workflow.plan or {})["defaults"] == ["failures"]


@pytest.mark.parametrize(
    ("values", "error"),
    [
        (
            {"param_failures": "many"},
            "Cannot start demo_retry: failures is 'many'; expected int. Parameters: failures=2.",
        ),
        ({"param_failures": DEEP}, "The JSON is nested too deeply."),
        ({"pool": "a pool"}, "pool_id is 'a pool'; expected 1 to 128 of the characters A-Z a-z 0-9 . _ -."),
    ],
)
def test_invalid_values_show_an_error(admin: Client, values: dict[str, str], error: str) -> None:
    response = admin.post(RETRY, EMPTY_FORM | values)
    assert (response.status_code, form_errors(response)) == (200, [error])
    assert not Workflow.objects.exists()


def test_unknown_workflow_shows_what_can_be_started(admin: Client) -> None:
    response = admin.get(f"{START}?workflow=nothing")
    assert [str(each) for each in response.context["messages"]] == ["There is no workflow nothing."]
    assert "?workflow=demo_retry" in response.content.decode()


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


def paint(  # noqa: D417
    prompt: str,
    title: str,
    size: Annotated[int, msgspec.Meta(ge=1, le=9)] = 4,
    *,
    ratio: float | None = None,
    colour: Colour = Colour.RED,
    bright: bool = True,
    layers: tuple[int, ...] = (1, 2),
    note: str = "as is",
    anything: Any = None,
    **others: int,
) -> Any:
    """Paint.

    Args:
        title: What it is called.
    """


PAINT = WorkflowDefinition(name="paint", adapter="python", pool="local", timeout_seconds=None, function=paint)


def test_each_parameter_has_a_field_that_fits_its_type() -> None:
    fields = parameter_fields(parameters_schema(PAINT))
    shown = {name: (type(field.widget).__name__, field.initial, field.help_text) for name, field in fields.items()}
    assert shown == {
        "title": ("TextInput", "", "What it is called; text; required."),
        "size": ("NumberInput", "4", "Whole number; default 4."),
        "ratio": ("NumberInput", "", "Number; optional."),
        "colour": ("Select", "red", "Default red."),
        "bright": ("Select", "true", "Default true."),
        "layers": ("Textarea", "[1, 2]", "JSON array; default [1, 2]."),
        "note": ("TextInput", "as is", "Text; default as is."),
        "anything": ("TextInput", "", "Text or JSON; optional."),
    }
    assert [name for name, field in fields.items() if field.required] == ["title"]
    assert fields["size"].widget.attrs == {"step": "1", "min": 1, "max": 9}
    assert 'value="blue"' in str(StartForm(PAINT)["param_colour"])
    arguments = {name: field.argument("7") for name, field in fields.items()}
    assert arguments == {**dict.fromkeys(fields, 7), "title": "7", "note": "7"}


def test_function_with_other_parameters_has_a_field_for_them() -> None:
    form = StartForm(PAINT, {"param_title": "x", "params": '{"depth": 1}'})
    assert form.is_valid() and form.fields["params"].label == "Other parameters"
    for wrong, error in (("{", "Enter a valid JSON."), ("[1]", "Enter a JSON object."), (DEEP, "nested too deeply")):
        form = StartForm(PAINT, {"param_title": "x", "params": wrong})
        assert error in str(form.errors["params"]), wrong
    assert "null" not in str(StartForm(PAINT)["params"])


def test_user_without_change_permission_cannot_start_a_workflow() -> None:
    user = User.objects.create_user("reader", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_workflow"))
    reader = Client(headers={"host": "localhost"})
    reader.force_login(user)
    assert START not in reader.get(WORKFLOWS).content.decode()
    assert (reader.get(START).status_code, reader.post(RETRY, EMPTY_FORM).status_code) == (403, 403)
    assert not Workflow.objects.exists()


def test_broken_module_is_shown_and_other_workflows_start(admin: Client, write_packages: WritePackages) -> None:
    module = write_packages(broken_shop="import no_such_package\n") / "broken_shop" / "workflows.py"
    response = admin.get(START)
    assert [str(each) for each in response.context["messages"]] == [
        "broken_shop.workflows cannot be imported: ModuleNotFoundError: No module named 'no_such_package' "
        f"({module}, line 1)."
    ]
    assert "?workflow=demo_retry" in response.content.decode()
    assert admin.post(RETRY, EMPTY_FORM).status_code == 302
    assert Workflow.objects.count() == 1


def test_secret_is_asked_for_in_a_password_field_that_no_page_fills_in(admin: Client) -> None:
    with override_settings(MAHAVISHNU_APPS=["tests.jobs"]):
        url = f"{START}?workflow=secret_on_stdin"
        page = admin.get(url).content.decode()
        assert '<input type="password" name="param_api_key" autocomplete="new-password"' in page
        response = admin.post(url, {"param_api_key": "s3cr3t key", "pool": "no pool", "prompt": "", "key": ""})
        assert response.status_code == 200 and "s3cr3t" not in response.content.decode()
        response = admin.post(url, {"param_api_key": "s3cr3t key", "pool": "", "prompt": "", "key": ""})
        (workflow,) = Workflow.objects.all()
        assert (response.status_code, workflow.params) == (302, {"api_key": "***"})
        assert "s3cr3t" not in admin.get(response["Location"]).content.decode()
