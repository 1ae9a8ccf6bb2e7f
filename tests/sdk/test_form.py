"""The form of an answer, where a stage is defined."""

from __future__ import annotations

from dataclasses import make_dataclass

import pytest

from orchestration.models.wait import MAX_FORM_LENGTH
from orchestration.sdk import InvalidDefinition, ask, wait_for_signal


def form_of_length(length: int) -> type:
    """Return a form whose path, `package.module:Class`, has so many characters."""
    form = make_dataclass("F" * (length - len(f"{__name__}:")), [("approved", bool)])
    form.__module__ = __name__
    return form


def test_form_whose_path_is_too_long_to_be_stored_is_refused() -> None:
    longest = ask("approve", form_of_length(MAX_FORM_LENGTH)).wait
    assert longest is not None and len(longest.form) == MAX_FORM_LENGTH
    too_long = form_of_length(MAX_FORM_LENGTH + 1)
    for define in (ask, wait_for_signal):
        with pytest.raises(InvalidDefinition) as refused:
            define("approve", too_long)
        assert str(refused.value) == (
            f"Form {__name__}:{too_long.__qualname__}: expected a module and a class whose names have at most 255 "
            "characters, not 256"
        )
