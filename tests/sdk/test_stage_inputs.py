"""What stages take of the inputs of a run, what they return, and what is refused at the start."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from orchestration.models import Workflow
from orchestration.plan import Arguments
from orchestration.sdk import InvalidDefinition, InvalidParameter, StageFailed
from orchestration.sdk.json_values import to_builtins
from orchestration.sdk.outcome import checked_output
from orchestration.sdk.stage_inputs import InvalidInput, checked_return, inputs_of
from orchestration.testing import fake_context, run_inline
from tests.jobs import typed_stages
from tests.jobs.typed_stages import Rows

INPUTS = {"prompt": "p", "region": "eu", "days": 7}


class Model(BaseModel):
    days: int = Field(ge=1)
    tags: set[str] = {"b", "a"}


def call(function: Any, *given: Any, inputs: Mapping[str, Any] = INPUTS) -> Any:
    by_position, by_name = inputs_of(function).arguments("load", inputs, Arguments(given))
    return function("ctx", *by_position, **by_name)


def positional_only(_: Any, inputs: Any, /) -> Any:
    return inputs


def test_functions_of_context_and_inputs_are_called_as_before() -> None:
    @functools.wraps(positional_only)
    def wrapper(ctx: Any, everything: Any) -> Any:
        return everything

    mock = Mock(return_value=INPUTS)
    several: list[Any] = [
        lambda ctx, inputs: inputs,
        lambda ctx, _: _,
        lambda *arguments: arguments[1],
        lambda ctx, *rest: rest[0],
        positional_only,
        wrapper,
        mock,
    ]
    for function in several:
        assert call(function) == INPUTS, function
    assert mock.call_args.args == ("ctx", INPUTS)


def test_named_inputs_are_passed_by_name_with_defaults_and_the_rest() -> None:
    assert call(lambda ctx, days, region: (region, days)) == ("eu", 7)
    assert call(lambda ctx, *, prompt: prompt) == "p"
    assert call(lambda ctx, limit=3, days=0: (limit, days)) == (3, 7)
    assert call(lambda ctx, days, **others: others) == {"prompt": "p", "region": "eu"}
    assert call(lambda ctx, inputs, days: (inputs, days)) == (INPUTS, 7)
    assert call(lambda ctx: "nothing") == "nothing"
    assert call(lambda ctx, state, days: (state, days), "given") == ("given", 7)


def test_inputs_are_converted_to_annotations_with_models_of_pydantic() -> None:
    def load(ctx: Any, day: datetime.date, model: Model | None = None) -> Any:
        return day, model

    inputs = {"day": "2026-01-31", "model": {"days": 2}}
    assert call(load, inputs=inputs) == (datetime.date(2026, 1, 31), Model(days=2))
    with pytest.raises(InvalidInput) as raised:
        call(load, inputs={**inputs, "model": {"days": 0}})
    assert raised.value.may_retry is False
    assert str(raised.value).endswith("(`days`: Input should be greater than or equal to 1)")


def test_object_of_all_inputs_is_converted_whether_or_not_it_has_the_prompt() -> None:
    @dataclass
    class Some:
        days: int

    class Strict(BaseModel, extra="forbid"):
        days: int
        region: str

    def one(ctx: Any, inputs: Some) -> Any:
        return inputs

    def other(ctx: Any, inputs: Strict) -> Any:
        return inputs

    one.__annotations__["inputs"], other.__annotations__["inputs"] = Some, Strict
    assert call(one) == Some(7)
    assert call(other) == Strict(days=7, region="eu")
    with pytest.raises(InvalidInput, match=r"Stage load: inputs is .*; expected .*Some .*Expected `int`, got `str`"):
        call(one, inputs={"days": "x"})


@pytest.mark.django_db
def test_run_with_typed_stages_passes_typed_values_from_stage_to_stage() -> None:
    result = run_inline(typed_stages.typed_stages, "p", day="2026-01-31", folder="/tmp")
    assert result.stages["load"].output == {
        "region": "eu",
        "day": "2026-01-31",
        "price": "1.50",
        "tags": ["a", "b"],
    }
    assert result.output == "/tmp/p-eu-2026-2"


@pytest.mark.django_db
def test_what_a_stage_cannot_take_is_refused_at_the_start() -> None:
    with pytest.raises(InvalidDefinition) as misspelled:
        typed_stages.misspelled.start()
    assert str(misspelled.value) == (
        "Cannot start misspelled: Stage takes_unknown takes regoin; expected one of prompt, region"
    )
    with pytest.raises(InvalidParameter) as unbounded:
        typed_stages.unbounded.start(days=0)
    assert unbounded.value.reason == (
        "Stage takes_bounded: days is 0; expected Annotated[int, msgspec.Meta(ge=1)] (Expected `int` >= 1)"
    )
    with pytest.raises(InvalidParameter, match="Stage takes_bounded takes days; expected one of prompt"):
        typed_stages.open_to_all.start()
    with pytest.raises(InvalidParameter, match=r"Stage takes_object: inputs is .*>= 1 - at `\$.days`"):
        typed_stages.whole_object.start(days=0)
    assert not Workflow.objects.exists()


@pytest.mark.django_db
def test_output_that_does_not_fit_the_return_annotation_fails_without_a_retry() -> None:
    result = run_inline(typed_stages.wrong_output)
    assert (result.status, result.error) == (
        "failed",
        "The stage returns_other failed: Stage returns_other returned ['no UUID']; expected list[uuid.UUID] "
        "(Invalid UUID - at `$[0]`)",
    )


def test_return_annotation_that_is_none_or_unknown_is_not_checked() -> None:
    def unknown(ctx: Any) -> Nowhere:  # type: ignore[name-defined]  # noqa: F821
        ...

    for function in (lambda ctx: 1, unknown):
        assert checked_return("load", function, {1}) == {1}


def test_results_are_read_as_a_type() -> None:
    stored = {"region": "eu", "day": "2026-01-31", "price": "1.50", "tags": ["a"]}
    ctx = fake_context(results={"load": stored})
    assert ctx.results.get_as("load", Rows) == Rows("eu", datetime.date(2026, 1, 31), Decimal("1.50"), {"a"})
    assert ctx.results == {"load": stored}
    with pytest.raises(KeyError):
        ctx.results.get_as("later", Rows)
    with pytest.raises(StageFailed, match=r"The output of stage load is .*; expected int") as raised:
        ctx.results.get_as("load", int)
    assert raised.value.may_retry is False


def test_classes_are_not_encoded_as_outputs() -> None:
    with pytest.raises(StageFailed, match="The stage returned a list, which is not JSON"):
        checked_output([Model], max_bytes=100)


ROWS = st.builds(
    Rows,
    region=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")),
    day=st.dates(),
    price=st.decimals(allow_nan=False, allow_infinity=False),
    tags=st.sets(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=3)),
)
MODELS = st.builds(Model, days=st.integers(1, 2**53), tags=st.sets(st.sampled_from("abc")))


@given(st.one_of(ROWS, MODELS), st.booleans())
def test_output_is_read_back_as_it_was_returned(value: Any, is_in_list: bool) -> None:
    output = [value] if is_in_list else value
    stored = checked_output(output, max_bytes=10**6)
    ctx = fake_context(results={"load": stored})
    kind: Any = list[type(value)] if is_in_list else type(value)  # type: ignore[misc]
    assert ctx.results.get_as("load", kind) == output
    assert checked_output(ctx.results.get_as("load", kind), max_bytes=10**6) == stored == to_builtins(output)
