"""The JSON Schema of the parameters of a workflow: it accepts what a start accepts, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict
from uuid import UUID

import pytest
from msgspec import Meta, Struct

from orchestration.models import Workflow
from orchestration.sdk import InvalidParameter, WorkflowDefinition
from orchestration.sdk.parameter_schema import argument_descriptions, first_paragraph, parameters_schema
from orchestration.sdk.parameters import Parameters
from tests.harness.json_schema import is_valid
from tests.jobs.workflows import first
from tests.sdk.parameter_types import Cat, Colour, Dog, Options, Own, Point, Size, Tagged, Tags, Window


class Level(IntEnum):
    LOW = 1
    HIGH = 2


@dataclass
class Node:
    """Contains itself."""

    name: str
    children: list[Node] = field(default_factory=list)


class Strict(Struct, forbid_unknown_fields=True, rename="camel"):
    unit_price: Annotated[float, Meta(gt=0)]


class Row(Struct, array_like=True):
    width: int
    label: str = ""


class Job(TypedDict):
    name: str
    tries: NotRequired[int]


ANNOTATIONS: list[Any] = [
    *(int, float, bool, str, None, bytes, Any, object, list, dict, tuple, "OnlyForTypeCheckers"),
    *(Path, Path | None, Own, list[Own], int | Own, str | date, Callable[[], None], Iterable[int]),
    *(int | None, str | None, int | str, float | bool, list[int] | int | None),
    *(Literal["eu", "us"], Literal[1, "a", None], Colour, Level, Colour | None),
    *(list[int], list[list[str]], set[int], frozenset[Colour], tuple[int, str], tuple[int, ...], tuple[()]),
    *(dict[str, int], dict[str, list[Point]], dict[int, str], dict[float, str], dict[Colour, int], dict[Level, int]),
    *(dict[date, int], dict[Literal["eu"], int], dict[Annotated[str, Meta(min_length=2)], int], dict[str, Any]),
    *(datetime, Annotated[datetime, Meta(tz=True)], Annotated[datetime, Meta(tz=False)], date, time, timedelta),
    *(Decimal, UUID),
    *(Annotated[int, Meta(ge=1, le=3)], Annotated[float, Meta(gt=1, lt=3)], Annotated[int, Meta(multiple_of=2)]),
    *(Annotated[str, Meta(min_length=1, max_length=2)], Annotated[str, Meta(pattern="^[a-c]+$")]),
    *(Annotated[list[int], Meta(min_length=1, max_length=2)], Annotated[dict[str, int], Meta(min_length=1)]),
    *(
        Options,
        Options | None,
        list[Options],
        Point,
        Size,
        Tags,
        Tagged,
        Window,
        Node,
        Strict,
        Row,
        Job,
        Cat,
        Cat | Dog,
    ),
]

VALUES: list[Any] = [
    *(None, True, False, 0, 1, 2, 3, 4, -1, 2**70, 0.5, 2.5, -0.25),
    *("", "a", "ab", "abc", "eu", "red", "blue", "1", "-12", "1.5", "1e3", "x y", "YQ==", "YQ", "YWJj", "é"),
    *("2026-01-02", "2026-1-2", "tomorrow", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05", "2026-01-02T03:04Z"),
    *("2026-01-02 03:04:05.25+01:00", "03:04:05", "03:04:05Z", "03:04"),
    *("P1D", "PT1H30M", "-P1DT2.5S", "P", "PT", "P1W", "P1DT"),
    *("12345678-1234-5678-1234-567812345678", "12345678123456781234567812345678", "1234"),
    *([], [1], [1, 2], [1, 1], [1, "a"], [1, 2, 3], [1, "a", 2.5], ["a"], ["red"], ["a", 1], [["a"]], [None], [{}]),
    *([{"x": 1}], [{"depth": 1}]),
    *({}, {"a": 1}, {"ab": 1}, {"a": "b"}, {"1": "a"}, {"01": "a"}, {"1.5": "a"}, {"red": 1}, {"1": 1}, {"eu": 1}),
    *({"2026-01-02": 1}, {"x": 1}, {"x": 1, "y": 2}, {"x": "1"}, {"x": 1, "z": 2}, {"a": [{"x": 1}]}, {"a": [{}]}),
    *({"depth": 1}, {"depth": 1, "names": ["a"]}, {"depth": 1, "other": 1}, {"tags": ["a"]}, {"tags": [1]}),
    *({"size": [1, 2]}, {"size": [1]}, {"places": {"a": {"x": 1}}}, {"places": {"a": {"z": 1}}}),
    *({"name": "a"}, {"name": "a", "children": [{"name": "b"}]}, {"name": "a", "children": [{}]}),
    *({"name": "a", "tries": 2}, {"name": "a", "tries": "2"}),
    *({"unitPrice": 1.5}, {"unitPrice": 0}, {"unit_price": 1.5}, {"unitPrice": 1.5, "x": 1}),
    *({"kind": "cat", "name": {"depth": 1}}, {"kind": "dog", "name": {"x": 1}}, {"kind": "dog", "name": {"depth": 1}}),
    *({"name": {"depth": 1}}, {"kind": "eel", "name": {"x": 1}}),
]


def defined(function: Callable[..., Any]) -> WorkflowDefinition:
    """Define a workflow, which is not registered."""
    return WorkflowDefinition(name="demo", adapter="python", pool="local", timeout_seconds=None, function=function)


def with_parameter(annotation: Any, **default: Any) -> WorkflowDefinition:
    if default:

        def function(prompt: str, *, value: Any = default["default"]) -> Any: ...
    else:

        def function(prompt: str, *, value: Any) -> Any: ...  # type: ignore[misc]

    function.__annotations__["value"] = annotation
    return defined(function)


def is_accepted(definition: WorkflowDefinition, params: dict[str, Any]) -> bool:
    try:
        Parameters(definition.name, definition.function).to_store(params)
    except InvalidParameter:
        return False
    return True


@pytest.mark.parametrize("annotation", ANNOTATIONS, ids=str)
def test_schema_accepts_the_values_that_a_start_accepts(annotation: Any) -> None:
    definition = with_parameter(annotation)
    schema = parameters_schema(definition)
    accepted = [value for value in VALUES if is_accepted(definition, {"value": value})]
    assert [value for value in VALUES if is_valid(schema, {"value": value})] == accepted
    assert accepted, "the table has values for each annotation"


@pytest.mark.parametrize(
    ("annotation", "default"),
    [(int, 3), (int, None), (str | None, None), (Options, Options(1)), (Colour, Colour.RED), (Any, [1]), (Own, Own())],
)
def test_schema_of_a_default_accepts_it_and_is_not_required(annotation: Any, default: Any) -> None:
    definition = with_parameter(annotation, default=default)
    schema = parameters_schema(definition)
    assert schema["required"] == []
    for value in VALUES:
        assert is_valid(schema, {"value": value}) == is_accepted(definition, {"value": value}), value
    stored = Parameters("demo", definition.function).to_store({})
    assert schema["properties"]["value"].get("default") == stored.get("value")
    assert is_valid(schema, stored)


def names_only(prompt: str, count: int, *, label: str = "x") -> None: ...


def any_names(prompt: str, *, count: int = 1, **others: float) -> None: ...


def only_prompt(prompt: str) -> None: ...


@pytest.mark.parametrize("function", [names_only, any_names, only_prompt])
@pytest.mark.parametrize(
    "params",
    [
        *({}, {"count": 1}, {"count": 1, "label": "y"}, {"count": "1"}, {"count": 1, "size": 2.5}, {"size": 2.5}),
        *({"size": "big"}, {"prompt": 1.5}, {"pool": 1.5}, {"count": 1, "key": 1.5}, {"workflow_id": 1.5}),
    ],
    ids=str,
)
def test_schema_accepts_the_names_that_a_start_accepts(function: Any, params: dict[str, Any]) -> None:
    definition = defined(function)
    assert is_valid(parameters_schema(definition), params) == is_accepted(definition, params)


@pytest.mark.django_db
def test_schema_describes_real_starts() -> None:
    def function(prompt: str, *, order: Options, day: date | None = None, **weights: float) -> Any:
        return [first]

    shipped = defined(function)
    schema = parameters_schema(shipped)
    for params in (
        {"order": {"depth": 1}},
        {"order": {"depth": 1, "names": ["a"]}, "day": "2026-02-10", "small": 0.5},
        {"order": {"depth": "1"}},
        {"order": {"depth": 1}, "day": "today"},
        {"order": {"depth": 1}, "small": "light"},
        {"day": None},
    ):
        try:
            run = shipped.start("ship it", **params)
        except InvalidParameter:
            assert not is_valid(schema, params), params
        else:
            assert is_valid(schema, params), params
            assert is_valid(schema, Workflow.objects.get(pk=run.workflow_id).params)


SMALL = Size(1, 2)
SHIP = """Ship an order, at
    a time.

    Args:
        prompt: What for.
        when: The time,
            in any zone.
        size (Size): Its size.

    Raises:
        path: Not an argument.
    """


def test_schema_is_a_complete_document() -> None:
    def function(prompt: str, *, when: datetime, size: Size = SMALL, path: Path | None = None) -> None: ...

    function.__doc__ = SHIP
    definition = defined(function)
    assert first_paragraph(function) == "Ship an order, at a time."
    assert parameters_schema(definition) == {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "when": {
                "type": "string",
                "format": "date-time",
                "pattern": r"^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:?\d{2})?$",
                "description": "The time, in any zone.",
            },
            "size": {"$ref": "#/$defs/Size", "default": [1, 2], "description": "Its size."},
            "path": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        },
        "required": ["when"],
        "additionalProperties": False,
        "$defs": {
            "Size": {
                "title": "Size",
                "type": "array",
                "prefixItems": [{"type": "integer"}, {"type": "integer"}],
                "minItems": 2,
                "maxItems": 2,
            }
        },
    }


def test_classes_of_one_name_have_a_schema_each() -> None:
    other: Any = Enum("Colour", {"GREEN": "green"})  # type: ignore[misc]

    def function(prompt: str, *, one: Any, two: Any) -> None: ...

    function.__annotations__.update(one=Colour, two=list[other])
    schema = parameters_schema(defined(function))
    assert is_valid(schema, {"one": "red", "two": ["green"]})
    assert not is_valid(schema, {"one": "green", "two": ["red"]})


LONG_ARGS = """Text.

Arguments:
  a: One.

  **b: Two,
    and more: yes.

Returns:
  c: No.
"""
TYPED_ARGS = """Text.

Args:
    no colon here
    a (int, optional):
        On the next line.
"""


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        (None, {}),
        ("One line.", {}),
        ("Args: of the first line.", {}),
        (LONG_ARGS, {"a": "One.", "b": "Two, and more: yes."}),
        (TYPED_ARGS, {"a": "On the next line."}),
        ("Text.\n\nArgs:", {}),
    ],
)
def test_argument_descriptions_are_read_from_google_style(docstring: str | None, expected: dict[str, str]) -> None:
    def function() -> None: ...

    function.__doc__ = docstring
    assert argument_descriptions(function) == expected
