"""Suggestions for misspelled names."""

from __future__ import annotations

import pytest

from orchestration.sdk import UnknownWorkflow, find_definition
from orchestration.suggestions import MAX_KNOWN_NAMES, MAX_NAME_CHARACTERS, did_you_mean, similar_names

KNOWN = ("demo_retry", "demo_failure", "source_report")


@pytest.mark.parametrize(
    ("name", "similar"),
    [("demo_retyr", ["demo_retry"]), ("DEMO_RETRY", ["demo_retry"]), ("rep", []), ("nothing_alike", []), ("", [])],
)
def test_similar_names_finds_misspellings(name: str, similar: list[str]) -> None:
    assert similar_names(name, KNOWN) == similar


def test_similar_names_compares_a_bounded_number_of_short_names() -> None:
    names = [f"{number:06}" for number in range(MAX_KNOWN_NAMES)]
    assert similar_names("abcdefgh", [*names, "abcdefgh"]) == []
    assert similar_names("abcdefgh", [*names[1:], "abcdefgh"]) == ["abcdefgh"]
    assert similar_names("a" * (MAX_NAME_CHARACTERS + 1), ["a" * MAX_NAME_CHARACTERS]) == []


def test_did_you_mean_is_a_sentence_or_nothing() -> None:
    assert did_you_mean(["a", "b"]) == " Did you mean a or b?"
    assert did_you_mean([]) == ""


def test_unknown_workflow_suggests_the_similar_one() -> None:
    with pytest.raises(UnknownWorkflow) as raised:
        find_definition("demo_retyr")
    assert str(raised.value).startswith("Workflow demo_retyr not found. Did you mean demo_retry? Defined workflows: ")
