"""The defaults of parameters: stored, shown, and given by a caller."""

from __future__ import annotations

import math
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from orchestration.sdk import InvalidParameter
from tests.sdk.parameter_types import Hostile, Options, Own, parameters_with


@pytest.mark.parametrize(
    ("annotation", "default", "stored"),
    [
        (int, 3, 3),
        (int, None, None),
        (Path, Path("a"), "a"),
        (Any, (1, 2), [1, 2]),
        (Any, date(2026, 1, 2), "2026-01-02"),
        (Options, Options(1, ("a",)), {"depth": 1, "names": ["a"]}),
    ],
)
def test_default_is_stored_as_json_and_passed_unchanged(annotation: Any, default: Any, stored: Any) -> None:
    parameters = parameters_with(annotation, default=default)
    assert parameters.to_store({}) == {"value": stored}
    assert parameters.to_call({"value": stored}) == {"value": default}


@pytest.mark.parametrize("default", [Own(), math.nan, {1, Own}, "\ud800"])
def test_default_that_is_no_json_is_not_stored(default: Any) -> None:
    parameters = parameters_with(Any, default=default)
    assert parameters.to_store({}) == {}
    assert parameters.to_call({}) == {}


@pytest.mark.parametrize("given", [None, "", {"a": [1]}])
def test_default_that_does_not_fit_its_annotation_can_be_given(given: Any) -> None:
    parameters = parameters_with(int, default=given)
    assert parameters.to_store({"value": given}) == parameters.to_store({}) == {"value": given}
    assert parameters.to_call({"value": given}) == {"value": given}
    with pytest.raises(InvalidParameter):
        parameters.to_store({"value": "many"})


def test_default_that_cannot_be_copied_or_shown_is_described_by_its_type() -> None:
    parameters = parameters_with(Any, default=Hostile())
    assert parameters.described == ("value=<Hostile>",)
    assert parameters.to_store({}) == {}


def test_given_value_that_equals_a_default_of_another_type_is_kept() -> None:
    parameters = parameters_with(Any, default=1)
    assert parameters.to_call(parameters.to_store({"value": True})) == {"value": True}
