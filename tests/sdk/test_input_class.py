"""Parameters that are the fields of a class."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from pydantic import BaseModel

from orchestration import services
from orchestration.models import Workflow
from orchestration.sdk import InvalidDefinition, InvalidParameter, WorkflowDefinition, workflow
from orchestration.sdk.launch import described_parameters, launch_by_name
from orchestration.sdk.parameter_schema import parameters_schema
from orchestration.testing import run_inline
from tests.harness.json_schema import is_valid
from tests.jobs import input_classes
from tests.jobs.input_classes import of_attrs, of_dataclass, of_model, of_renamed, of_typed_dict

pytestmark = pytest.mark.django_db


def test_defaults_of_fields_are_stored_and_the_stage_receives_the_object() -> None:
    result = run_inline(of_dataclass, days=2)
    assert result.output == {"days": 2, "region": "eu", "tags": ["a", "b"], "api_key": ""}
    assert Workflow.objects.get().params == result.output


def test_model_of_pydantic_is_checked_converted_and_masked() -> None:
    result = run_inline(of_model, days="2", token="a secret token")
    assert result.output == ["Model", True, 14]
    (stored,) = Workflow.objects.all()
    assert stored.params == {"days": 2, "region": "eu", "token": "***", "tags": []}
    assert services.unsealed(stored) == {"token": "a secret token"}


def test_every_kind_of_class_can_be_the_parameters() -> None:
    assert run_inline(of_attrs).output == 3
    assert run_inline(of_typed_dict, days=4).output == 4
    run = run_inline(of_renamed, firstDay=5)
    assert run.output == 5
    # Computed once, and stored.
    assert uuid.UUID(Workflow.objects.get(pk=run.workflow_id).params["runId"]).version == 4


REFUSED: list[tuple[WorkflowDefinition, dict[str, Any], str]] = [
    (of_dataclass, {}, "missing a required parameter: 'days'"),
    (of_dataclass, {"days": 1, "more": 2}, "'more' is not a parameter"),
    (of_dataclass, {"days": 0}, "days is 0; expected Annotated[int, msgspec.Meta(ge=1)] (Expected `int` >= 1)"),
    (
        of_dataclass,
        {"days": 1, "region": "mars", "api_key": "a secret key"},
        "the parameters are {'api_key': '***', 'days': 1, 'region': 'mars'}; expected tests.jobs.input_classes.Plain "
        "(no days on mars)",
    ),
    (
        of_model,
        {"days": 0},
        "the parameters are {'days': 0}; expected tests.jobs.input_classes.Model "
        "(`days`: Input should be greater than or equal to 1)",
    ),
    (of_typed_dict, {"days": "x"}, "days is 'x'; expected int"),
    (of_model, {"days": 1, "token": "***"}, "token is ***; expected at least 4 characters of the value itself"),
]


@pytest.mark.parametrize(("definition", "params", "reason"), REFUSED)
def test_what_the_class_rejects_is_refused_at_the_start(
    definition: WorkflowDefinition, params: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InvalidParameter) as raised:
        definition.start(**params)
    assert raised.value.reason.startswith(reason)
    assert not Workflow.objects.exists()


def test_texts_of_forms_are_used_where_values_are_not_accepted() -> None:
    for name in ("of_dataclass", "of_model"):
        run = launch_by_name(name, prompt="", params={"days": 7, "region": 49}, texts={"days": "7", "region": "49"})
        assert run.workflow.params["region"] == "49"


def test_schema_and_description_are_those_of_the_fields() -> None:
    assert described_parameters(of_dataclass) == ("days", "region='eu'", "tags=computed", "api_key=''")
    plain, model = parameters_schema(of_dataclass), parameters_schema(of_model)
    assert plain["properties"]["days"] == {"type": "integer", "minimum": 1, "description": "How many days."}
    assert plain["properties"]["api_key"] == {"type": "string", "writeOnly": True, "default": ""}
    assert model["properties"]["days"] == {"type": "integer", "minimum": 1, "description": "How many days."}
    assert model["properties"]["token"]["writeOnly"] is True
    for schema in (plain, model):
        assert schema["required"] == ["days"]
        assert is_valid(schema, {"days": 1}) and not is_valid(schema, {"days": 0})
        assert not is_valid(schema, {"days": 1, "more": 2})


def test_model_in_a_parameter_has_the_schema_of_pydantic() -> None:
    class Inner(BaseModel):
        size: int

    class Outer(BaseModel):
        inner: Inner

    def function(prompt: str, *, outer: Any) -> Any: ...

    function.__annotations__["outer"] = list[Outer]
    schema = parameters_schema(
        WorkflowDefinition(name="w", adapter="python", pool="local", timeout_seconds=None, function=function)
    )
    assert is_valid(schema, {"outer": [{"inner": {"size": 1}}]})
    assert not is_valid(schema, {"outer": [{"inner": {"size": "x"}}]})


def test_class_that_cannot_be_parameters_is_refused() -> None:
    with pytest.raises(InvalidDefinition, match="expected a dataclass or another class with typed fields"):
        workflow(inputs=int)
    with pytest.raises(InvalidDefinition, match=r"Reserved.pool: no parameter may have this name"):
        launch_by_reserved()


def launch_by_reserved() -> None:
    class Reserved(BaseModel):
        pool: str

    WorkflowDefinition(
        name="w", adapter="python", pool="local", timeout_seconds=None, function=input_classes.of_attrs, inputs=Reserved
    ).start()
