"""The parameters of a workflow's function: types, defaults, what is stored and what the function receives."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID

import pytest
from msgspec import Meta

from orchestration.models import Workflow
from orchestration.sdk import InvalidParameter, workflow
from orchestration.sdk.launch import LaunchError, launch_by_name
from orchestration.sdk.parameters import Parameters
from tests.jobs.workflows import first, typed
from tests.sdk.parameter_types import (
    Cat,
    Colour,
    Dog,
    Options,
    Own,
    Picky,
    Point,
    Size,
    Tagged,
    Tags,
    Window,
    parameters_with,
)

if TYPE_CHECKING:
    from collections.abc import Callable


pytestmark = pytest.mark.django_db

TYPES = Options.__module__

UUID_TEXT = "12345678-1234-5678-1234-567812345678"

# Annotation, given value, stored value, value of the call.
ACCEPTED: list[tuple[Any, Any, Any, Any]] = [
    (int, 3, 3, 3),
    (int, 2**70, 2**70, 2**70),
    (float, 3, 3.0, 3.0),
    (bool, True, True, True),
    (str, "", "", ""),
    (int | None, None, None, None),
    (int | str, "x", "x", "x"),
    (Literal["eu", "us"], "us", "us", "us"),
    (Annotated[int, Meta(ge=1)], 1, 1, 1),
    (list[int], (1, 2), [1, 2], [1, 2]),
    (tuple[int, int], [1, 2], [1, 2], (1, 2)),
    (set[str], ["a"], ["a"], {"a"}),
    (set[int], {10, 9, 100}, [9, 10, 100], {9, 10, 100}),
    (list[frozenset[Colour]], [{Colour.RED, Colour.BLUE}], [["blue", "red"]], [frozenset(Colour)]),
    (set[int | str], {"b", "a", 2}, ["a", "b", 2], {"a", "b", 2}),
    (
        dict[str, set[Path]],
        {"b": {"d", "c"}, "a": set()},
        {"b": ["c", "d"], "a": []},
        {"b": {Path("c"), Path("d")}, "a": set()},
    ),
    (Tags, Tags({"b", "a"}), {"tags": ["a", "b"]}, Tags({"b", "a"})),
    (Tagged, Tagged({"b", "a"}), {"tags": ["a", "b"]}, Tagged({"b", "a"})),
    (set[Point], {Point(2), Point(1, 3)}, [{"x": 1, "y": 3}, {"x": 2, "y": 0}], {Point(2), Point(1, 3)}),
    (dict[str, int], {"a": 1}, {"a": 1}, {"a": 1}),
    (dict[int, str], {1: "a"}, {"1": "a"}, {1: "a"}),
    (datetime, "2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
    (datetime, datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00Z", datetime(2026, 1, 2, tzinfo=UTC)),
    (date, "2026-01-02", "2026-01-02", date(2026, 1, 2)),
    (timedelta, "P1D", "P1D", timedelta(days=1)),
    (Decimal, "1.50", "1.50", Decimal("1.50")),
    (UUID, UUID_TEXT, UUID_TEXT, UUID(UUID_TEXT)),
    (Path, "a/b", "a/b", Path("a/b")),
    (Path | None, Path("a/b"), "a/b", Path("a/b")),
    (list[Path], ["a"], ["a"], [Path("a")]),
    (Colour, "blue", "blue", Colour.BLUE),
    (Colour, Colour.BLUE, "blue", Colour.BLUE),
    (Size, [1, 2], [1, 2], Size(1, 2)),
    (Options, {"depth": 1}, {"depth": 1, "names": []}, Options(1)),
    (Options, Options(1, ("a",)), {"depth": 1, "names": ["a"]}, Options(1, ("a",))),
    (Any, {"any": [1, None]}, {"any": [1, None]}, {"any": [1, None]}),
    (Own, {"unknown": 1}, {"unknown": 1}, {"unknown": 1}),
    (list[Own], [1], [1], [1]),
    (int | Own, "unchecked", "unchecked", "unchecked"),
    (str | date, "unchecked", "unchecked", "unchecked"),
    ("OnlyForTypeCheckers", "unchecked", "unchecked", "unchecked"),
    ("no expression", "unchecked", "unchecked", "unchecked"),
]


@pytest.mark.parametrize(("annotation", "given", "stored", "called"), ACCEPTED)
def test_accepted_value_is_stored_as_json_and_converted_for_the_call(
    annotation: Any, given: Any, stored: Any, called: Any
) -> None:
    parameters = parameters_with(annotation)
    to_store = parameters.to_store({"value": given})
    assert Workflow(params=to_store).params == to_store
    read_back = as_read_back(to_store)
    assert json.dumps(read_back) == json.dumps({"value": stored})
    to_call = parameters.to_call(read_back)
    assert to_call == {"value": called}
    assert type(to_call["value"]) is type(called)


def as_read_back(params: dict[str, Any]) -> dict[str, Any]:
    from orchestration.services.validation import json_object

    return json_object("params", params)


@pytest.mark.parametrize(
    ("annotation", "given", "expected"),
    [
        (int, "many", "'many'; expected int"),
        (int, True, "True; expected int"),
        (int, 3.5, "3.5; expected int"),
        (bool, 1, "1; expected bool"),
        (str, 42, "42; expected str"),
        (str, b"x", "b'x'; expected str"),
        (int | None, "x", "'x'; expected int | None"),
        (Literal["eu", "us"], "asia", "'asia'; expected Literal['eu', 'us'] (Invalid enum value 'asia')"),
        (Annotated[int, Meta(ge=1)], 0, "0; expected Annotated[int, msgspec.Meta(ge=1)] (Expected `int` >= 1)"),
        (list[int], [1, "x"], "[1, 'x']; expected list[int] (Expected `int`, got `str` - at `$[1]`)"),
        (date, "tomorrow", "'tomorrow'; expected datetime.date (Invalid RFC3339 encoded date)"),
        (UUID, "1", "'1'; expected uuid.UUID (Invalid UUID)"),
        (Path, 7, "7; expected pathlib.Path"),
        (Colour, "green", "'green'; expected one of 'red', 'blue' (Invalid enum value 'green')"),
        (list[Own], "x", f"'x'; expected list[{TYPES}.Own]"),
        (Options, {}, f"{{}}; expected {TYPES}.Options (Object missing required field `depth`)"),
        (
            Options,
            {"depth": 1, "nmaes": []},
            f"{{'depth': 1, 'nmaes': []}}; expected {TYPES}.Options "
            "(Object contains unknown field 'nmaes'; its fields: depth, names)",
        ),
        (
            list[Window],
            [{"places": {"home": {"x": 1, "z": 2}}}],
            f"[{{'places': {{'home': {{'x': 1, 'z': 2}}}}}}]; expected list[{TYPES}.Window] "
            "(Object contains unknown field 'z' at `$[0].places['home']`; its fields: x, y)",
        ),
        (
            Picky,
            {"side": 0},
            f"{{'side': 0}}; expected {TYPES}.Picky (ZeroDivisionError: integer division or modulo by zero)",
        ),
    ],
)
def test_value_of_another_type_is_rejected_with_what_was_expected(annotation: Any, given: Any, expected: str) -> None:
    with pytest.raises(InvalidParameter) as rejection:
        parameters_with(annotation).to_store({"value": given})
    assert str(rejection.value) == f"Cannot start demo: value is {expected}. Parameters: value."


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Tagged, {"tags": ["a"], "other": 1}),
        (Options | None, {"depth": 1}),
        (Window, {"size": [1, 2], "options": {"depth": 1}, "places": {}}),
        (tuple[Options, int], [{"depth": 1}, 2]),
        (Cat | Dog, {"kind": "cat", "name": {"depth": 1}}),
        (Own, {"any": 1}),
    ],
)
def test_value_without_unknown_fields_is_accepted(annotation: Any, value: Any) -> None:
    parameters_with(annotation).to_store({"value": value})


def test_unknown_field_of_a_stored_value_is_dropped_for_the_call() -> None:
    stored = {"value": {"depth": 1, "removed_by_a_release": 2}}
    assert parameters_with(Options).to_call(stored) == {"value": Options(1)}


def test_parameters_that_cannot_be_given_are_not_listed_or_stored() -> None:
    def function(prompt: str, hidden: int = 1, /, *others: int, count: int = 2) -> None: ...

    parameters = Parameters("demo", function)
    assert parameters.described == ("count=2",)
    assert parameters.to_store({}) == {"count": 2}
    assert parameters.to_call({"count": 3}) == {"count": 3}


def test_start_stores_the_defaults_and_calls_the_function_with_converted_values() -> None:
    seen: list[Any] = []

    def function(prompt: str, *, path: Path, count: int = 3, **others: float) -> Any:
        seen.append((prompt, path, count, others))
        return [first]

    definition = workflow(name="seen")(function)
    run = definition.start("Try", path="a", rate=1)
    assert run.workflow.params == {"path": "a", "count": 3, "rate": 1.0}
    assert seen == [("Try", Path("a"), 3, {"rate": 1.0})]
    with pytest.raises(InvalidParameter, match=r"^Cannot start seen: rate is 'x'; expected float\. Parameters: path, "):
        definition.start(path="a", rate="x")


STARTS: dict[str, Callable[..., Any]] = {
    "start": lambda **params: typed.start(**params),
    "launch_by_name": lambda **params: launch_by_name("typed", prompt="", params=params),
}


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"count": "many"}, "count is 'many'; expected int"),
        ({"region": "asia"}, "region is 'asia'; expected Literal['eu', 'us'] (Invalid enum value 'asia')"),
        ({"cuont": 1}, "got an unexpected keyword argument 'cuont'"),
    ],
)
def test_every_start_rejects_invalid_parameters(start: Callable[..., Any], params: dict[str, Any], reason: str) -> None:
    with pytest.raises((InvalidParameter, LaunchError)) as rejection:
        start(**params)
    assert str(rejection.value) == f"Cannot start typed: {reason}. Parameters: count=3, region='eu', ticket=''."
    assert not Workflow.objects.exists()


def test_typed_text_is_used_if_the_function_does_not_accept_the_value() -> None:
    texts = {"ticket": "0042", "count": "42"}
    run = launch_by_name("typed", prompt="", params={"ticket": 42, "count": 42}, texts=texts)
    assert run.workflow.params == {"ticket": "0042", "count": 42, "region": "eu"}


def test_error_of_a_value_is_shown_if_its_text_is_not_accepted_either() -> None:
    with pytest.raises(InvalidParameter, match=r"value is \{'depth': 1, 'x': 2\}; expected .* unknown field 'x'"):
        parameters_with(Options).to_store({"value": {"depth": 1, "x": 2}}, texts={"value": '{"depth": 1, "x": 2}'})


def test_function_without_a_prompt_is_described_and_cannot_start() -> None:
    def function() -> None: ...

    assert Parameters("demo", function).described == ()
    with pytest.raises(InvalidParameter, match="too many positional arguments"):
        Parameters("demo", function).to_store({})
