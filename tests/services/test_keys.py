"""Idempotency keys: one run for each key, no key at all, and a key with other parameters."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest

from orchestration import services
from orchestration.models import Workflow
from orchestration.plan import Plan, StagePlan
from tests.services.concurrency import ROUNDS, run_concurrently, single_error

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]

PARAMS = {"failures": 3, "rate": 1e22, "nested": {"b": [1, None], "a": "\u00e4"}}


def start(
    *,
    key: str | None = "k",
    prompt: str = "p",
    params: Mapping[str, Any] = PARAMS,
    defaults: tuple[str, ...] = (),
    name: str = "demo",
    pool: str = "pool",
) -> Workflow:
    plan = Plan(name=name, adapter="python", stages=(StagePlan(name="one", step=0),))
    return services.start_run(plan, prompt=prompt, params=params, defaults=defaults, pool_id=pool, key=key)


@pytest.mark.parametrize("key", [None, ""])
def test_empty_key_is_no_key(key: str | None) -> None:
    runs = [start(key=key), start(key=key, prompt="another")]
    assert [run.key for run in runs] == ["", ""]
    assert Workflow.objects.count() == 2


def test_same_key_returns_the_run_of_the_first_start() -> None:
    first = start()
    assert start(params={"rate": 1e22, "nested": {"a": "\u00e4", "b": (1, None)}, "failures": 3}, pool="other") == first
    assert start(name="another definition") != first
    assert start(key="another") != first


def test_names_and_keys_with_colons_are_different_keys() -> None:
    pairs = [("a", "b:c"), ("a:b", "c"), ("a%3Ab", "c"), ("a%", "3Ab:c"), ("a:", "b:c"), ("a", ":b:c")]
    runs = [start(name=name, key=key) for name, key in pairs]
    assert len({run.pk for run in runs}) == len(pairs)
    assert [start(name=name, key=key) for name, key in pairs] == runs


@pytest.mark.parametrize(
    ("changed", "differences"),
    [
        ({"prompt": "q"}, "prompt='p'; "),
        ({"params": {**PARAMS, "failures": 4}}, "failures=3; "),
        ({"params": {**PARAMS, "colour": "red"}}, "no colour; "),
        (
            {"prompt": "q", "params": {"rate": 1e22}},
            "prompt='p', failures=3, nested={'a': 'ä', 'b': [1, None]}; ",
        ),
    ],
)
def test_same_key_with_other_parameters_is_rejected(changed: dict[str, Any], differences: str) -> None:
    first = start()
    with pytest.raises(services.KeyConflict) as conflict:
        start(**changed)
    message = str(conflict.value)
    assert message.startswith(f"Key k was used for workflow {first.pk} with {differences}")
    assert message.endswith("expected the same prompt and parameters, or another key.")
    assert conflict.value.workflow_id == first.pk
    assert list(Workflow.objects.all()) == [first]


@pytest.mark.parametrize(
    ("params", "defaults"),
    [
        ({"failures": 3, "rate": 1}, ("rate",)),
        ({"failures": 3, "rate": 2}, ("rate",)),  # The default has changed,
        ({"failures": 3}, ()),  # or the parameter is removed,
        ({"failures": 3, "rate": 1, "colour": "red"}, ("rate", "colour")),  # or there is another one.
        ({"failures": 3, "rate": 1}, ()),
        ({"failures": 3, "rate": 1}, ("failures", "rate")),
    ],
)
def test_same_key_ignores_defaults_that_a_release_has_changed(
    params: dict[str, Any], defaults: tuple[str, ...]
) -> None:
    first = start(params={"failures": 3, "rate": 1}, defaults=("rate",))
    assert start(params=params, defaults=defaults) == first
    assert first.params == {"failures": 3, "rate": 1}


@pytest.mark.parametrize(
    ("params", "defaults", "differences"),
    [
        ({"failures": 3, "rate": 2}, (), "rate=1; "),
        ({"failures": 4, "rate": 1}, ("failures", "rate"), "failures=3; "),
        ({"rate": 1}, ("rate",), "failures=3; "),
        ({"failures": 3, "rate": 1, "colour": "red"}, ("rate",), "no colour; "),
    ],
)
def test_same_key_compares_what_either_start_has_given(
    params: dict[str, Any], defaults: tuple[str, ...], differences: str
) -> None:
    start(params={"failures": 3, "rate": 1}, defaults=("rate",))
    with pytest.raises(services.KeyConflict) as conflict:
        start(params=params, defaults=defaults)
    assert f" with {differences}" in str(conflict.value)


def test_concurrent_starts_with_one_key_start_one_run() -> None:
    for number in range(ROUNDS):
        key = f"same {number}"
        outcomes = run_concurrently(*[partial(start, key=key)] * 4)
        assert {outcome.pk for outcome in outcomes} == {Workflow.objects.get(key=f"demo:{key}").pk}


def test_concurrent_starts_with_one_key_and_other_parameters_conflict() -> None:
    for number in range(ROUNDS):
        key = f"other {number}"
        error = single_error(run_concurrently(partial(start, key=key), partial(start, key=key, params={"failures": 4})))
        assert isinstance(error, services.KeyConflict)
        assert error.workflow_id == Workflow.objects.get(key=f"demo:{key}").pk
