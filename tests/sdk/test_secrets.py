"""Secret parameters: what is stored, what stages receive, and what is masked."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

from orchestration import services
from orchestration.models import FailedAttempt, Stage, Workflow
from orchestration.sdk import InvalidDefinition, InvalidParameter, KeyConflict, MissingRequirement, Secret
from orchestration.sdk.launch import LaunchError, described_parameters, launch_by_name
from orchestration.sdk.outcome import checked_output
from orchestration.sdk.parameter_schema import parameters_schema
from orchestration.sdk.secret import is_secret
from orchestration.sdk.stage_inputs import checked_return
from orchestration.secret_mask import MASK, hidden, hide, masked, masked_json
from orchestration.services.secrets import SecretsUnreadable
from orchestration.testing import run_inline
from orchestration.worker.code_check import inputs_of_run
from tests.jobs import secrets
from tests.sdk.parameter_types import Options, parameters_with

KEY = "s3cr3t/'key'\\ü&more"
PASSWORD = "correct horse battery"
PARAMS: dict[str, Any] = {"api_key": KEY, "login": {"user": "ada.lovelace", "password": PASSWORD}}
FORMS = (KEY, json.dumps(KEY)[1:-1], repr(KEY)[1:-1], PASSWORD, "ada.lovelace", "s3cr3t")


@dataclass
class Login:
    password: Annotated[str, Secret()]


class Model(BaseModel):
    logins: list[Login]


class Token(BaseModel):
    token: SecretStr


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (Annotated[str, Secret()], True),
        (Annotated[str, Secret], True),
        (Annotated[str, Secret()] | None, True),
        (dict[str, list[Annotated[str, Secret()]]], True),
        (Login, True),
        (Model, True),
        (list[Model] | None, True),
        (SecretStr, True),
        (Token, True),
        *((each, False) for each in (str, Any, Options, list[Options], Annotated[str, "Secret"], None)),
    ],
)
def test_type_that_contains_a_secret_is_secret(annotation: Any, expected: bool) -> None:
    assert is_secret(annotation) is expected


@pytest.mark.django_db
def test_run_stores_masks_and_gives_stages_the_values() -> None:
    result = run_inline(secrets.leaky, **PARAMS)
    workflow = Workflow.objects.get(pk=result.workflow_id)
    assert workflow.params == {"api_key": MASK, "login": MASK, "region": "eu", "other": None}
    assert services.unsealed(workflow) == PARAMS
    assert result.stages["leak"].output == {"key": MASK, MASK: [MASK], "length": len(KEY), "is_text": True}
    assert result.stages["leak"].logs == (f'key {MASK}, again "{MASK}", in an address {MASK}',)
    assert result.error == (
        f"The stage fail failed: RuntimeError: Refused {MASK} of {{'user': '{MASK}', 'password': '{MASK}'}}"
    )
    traceback = FailedAttempt.objects.get().traceback
    assert "RuntimeError: Refused" in traceback
    rows = [*Workflow.objects.values(), *workflow.stages.values(), *FailedAttempt.objects.values()]
    for text in FORMS:
        assert text not in str(rows) and text not in json.dumps([each.data for each in result.events])


@pytest.mark.django_db
def test_key_conflict_compares_secrets_without_showing_them() -> None:
    secrets.leaky.start(key="k", **PARAMS)
    assert secrets.leaky.start(key="k", **PARAMS).workflow_id
    with pytest.raises(KeyConflict) as raised:
        secrets.leaky.start(key="k", **{**PARAMS, "api_key": "another key"})
    assert raised.value.differences == (f"api_key={MASK}",)
    with override_settings(MAHAVISHNU_SECRETS_KEY="rotated"), pytest.raises(KeyConflict):
        secrets.leaky.start(key="k", **PARAMS)


@pytest.mark.django_db
def test_secrets_are_encrypted_and_unreadable_with_another_key() -> None:
    workflow = secrets.leaky.start(**PARAMS).workflow
    assert workflow.secrets.startswith("gAAAA")
    for key in ("another", lambda: "another"):
        with override_settings(MAHAVISHNU_SECRETS_KEY=key), pytest.raises(SecretsUnreadable, match="another key"):
            services.unsealed(workflow)
    with (
        override_settings(MAHAVISHNU_SECRETS_KEY="", SECRET_KEY=""),
        pytest.raises(SecretsUnreadable, match=r"this process has no key\. MAHAVISHNU_SECRETS_KEY is their key"),
    ):
        secrets.leaky.start(**PARAMS)


@pytest.mark.django_db
@pytest.mark.parametrize(
    "params",
    [
        {"api_key": 123456789},
        {"api_key": MASK},
        {"api_key": "abc"},
        {"api_key": KEY, "login": {"user": 987654321}},
        {"api_key": KEY, "login": "no object 4711"},
        {"api_key": KEY, "login": {}, "more": KEY},
    ],
)
def test_errors_of_a_start_do_not_show_secrets(params: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter) as raised:
        secrets.leaky.start(**{**PARAMS, **params})
    for text in (*FORMS, "123456789", "987654321", "4711", "'abc'"):
        assert text not in str(raised.value)
    assert not Workflow.objects.exists()


@pytest.mark.django_db
def test_secret_that_is_not_json_is_refused_without_showing_it() -> None:
    with pytest.raises(services.InvalidArgument) as raised:
        secrets.leaky.start(**{**PARAMS, "api_key": f"{KEY}\x00"})
    assert str(raised.value).startswith(f"params is {{'api_key': '{MASK}', 'login': '{MASK}'}}; expected a JSON object")


@pytest.mark.django_db
def test_errors_of_the_function_of_a_workflow_do_not_show_secrets() -> None:
    with pytest.raises(LaunchError) as raised:
        launch_by_name("raising", prompt="", params={"api_key": KEY})
    assert f"its function raised ValueError: cannot use {MASK} (" in str(raised.value)
    with pytest.raises(CommandError) as failed:
        call_command("run_workflow", "raising", "--param", f"api_key={KEY}")
    assert "s3cr3t" not in str(failed.value)


@pytest.mark.django_db
def test_plan_that_contains_a_secret_is_refused() -> None:
    with pytest.raises(InvalidDefinition) as raised:
        secrets.secret_in_command.start(api_key=KEY)
    assert str(raised.value) == (
        "Stage echo contains the value of api_key, which is secret; expected the stage to take it from its inputs, "
        "or a command from its standard input"
    )


@pytest.mark.django_db
def test_command_receives_secrets_on_standard_input_and_its_output_is_masked() -> None:
    result = run_inline(secrets.secret_on_stdin, api_key=KEY)
    assert (result.output["stdout"], result.stages["show"].logs) == (f"{MASK}\n", (MASK,))


def test_schema_and_description_show_no_default_of_a_secret() -> None:
    parameters = parameters_with(Annotated[str, Secret()], default="built-in key")
    assert parameters.described == (f"value={MASK}",)
    assert described_parameters(secrets.leaky) == ("api_key", "login", "region='eu'", "other=None")
    schema = parameters_schema(secrets.leaky)
    assert schema["properties"]["api_key"] == {"type": "string", "writeOnly": True}
    assert schema["properties"]["other"] == {
        "anyOf": [{"type": "string"}, {"type": "null"}],
        "writeOnly": True,
        "default": None,
    }


def test_blocks_hide_secrets_only_inside() -> None:
    with hidden([KEY]):
        assert masked(f"x{KEY}x") == f"x{MASK}x"
        with hidden(["other one"]):
            assert masked(f"{KEY} other one") == f"{KEY} {MASK}"
    assert masked(KEY) == KEY


def test_log_records_are_masked_with_their_tracebacks(caplog: pytest.LogCaptureFixture) -> None:
    factory = logging.getLogRecordFactory()
    hide([KEY])
    try:
        try:
            raise ValueError(KEY)
        except ValueError:
            logging.getLogger("tests").exception("with %s and %d", KEY, 3)
    finally:
        hide(())
    assert logging.getLogRecordFactory() is factory
    assert f"with {MASK} and 3" in caplog.text and f"ValueError: {MASK}" in caplog.text
    assert "s3cr3t" not in caplog.text


SECRETS = st.recursive(
    st.text(min_size=4) | st.integers(10**4, 10**9),
    lambda items: st.lists(items, max_size=3) | st.dictionaries(st.text(min_size=4, max_size=8), items, max_size=3),
    max_leaves=5,
)


@given(secret=SECRETS, before=st.text(), after=st.text())
def test_no_form_of_a_secret_survives(secret: Any, before: str, after: str) -> None:
    leaves = list(_leaves(secret))
    with hidden([secret]):
        for leaf in leaves:
            for form in (leaf, json.dumps(leaf)[1:-1], repr(leaf)[1:-1]):
                assert leaf == MASK or form not in masked(f"\n{form}\n").removeprefix("\n" + MASK)
            assert masked_json([leaf, {leaf: leaf}]) == [MASK, {MASK: MASK}]


def _leaves(value: Any) -> Any:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    else:
        yield str(value)


@pytest.mark.django_db
def test_worker_without_the_key_leaves_the_run_to_others() -> None:
    workflow = secrets.leaky.start(**PARAMS).workflow
    with override_settings(MAHAVISHNU_SECRETS_KEY="another"), pytest.raises(MissingRequirement) as raised:
        inputs_of_run(workflow)
    assert str(raised.value) == "the key of the secrets of the run (they were encrypted with another key)"


def test_secret_texts_of_pydantic_are_masked_in_outputs() -> None:
    def issue(ctx: Any) -> Any: ...

    token = Token(token=SecretStr("s3cr3t token"))
    issue.__annotations__["return"] = Token
    for output in (token, {"tokens": [token]}, {"own": SecretStr("s3cr3t")}, checked_return("issue", issue, token)):
        text = json.dumps(checked_output(output, max_bytes=1000))
        assert MASK in text and "s3cr3t" not in text


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("to", "what"),
    [
        ("stage", "The added stage use"),
        ("prompt", "prompt of inner"),
        ("key", "key of inner"),
        ("text", "text of inner"),
    ],
)
def test_stage_that_passes_a_secret_to_a_plan_or_a_sub_run_fails(
    to: str, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    result = run_inline(secrets.passing, api_key=KEY, to=to)
    error = f"The stage pass_on failed: {what} contains a secret of the run, and is stored as it is; expected "
    assert result.error.startswith(error)
    assert Stage.objects.get().attempt == 1
    assert Workflow.objects.count() == 1
    rows = [*Workflow.objects.values(), *Stage.objects.values(), *FailedAttempt.objects.values()]
    for text in (str(rows), json.dumps([each.data for each in result.events]), caplog.text):
        assert not [form for form in FORMS if form in text]


@pytest.mark.django_db
def test_stage_passes_a_secret_to_a_secret_parameter_of_a_sub_run() -> None:
    result = run_inline(secrets.passing, api_key=KEY, to="api_key")
    assert (result.status, result.error) == ("completed", "")
    inner = Workflow.objects.get(parent_id=result.workflow_id)
    assert inner.params["api_key"] == MASK
    assert services.unsealed(inner) == {"api_key": KEY}
