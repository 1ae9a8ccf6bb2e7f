"""The error and the traceback of a failed attempt, for every exception that a stage raises."""

from __future__ import annotations

from typing import Any

import pytest

from orchestration.limits import EngineLimits


@pytest.mark.parametrize(
    ("details", "stored"), [("", "StageFailed: broken\n"), (None, "StageFailed: broken\n"), (7, "7"), (b"x", "b'x'")]
)
def test_details_of_a_failed_stage_are_stored_as_text(details: Any, stored: str) -> None:
    from orchestration.sdk import StageFailed
    from orchestration.sdk.outcome import traceback_for_operators

    text = traceback_for_operators(StageFailed("broken", details=details), EngineLimits())
    assert text.endswith(stored)


def test_stage_failure_that_skips_the_constructor_of_its_base_class_has_defaults() -> None:
    from orchestration.sdk import StageFailed, error_for_clients
    from orchestration.sdk.outcome import traceback_for_operators

    class OutOfPaper(StageFailed):
        def __init__(self) -> None: ...

    assert OutOfPaper().may_retry is True
    assert error_for_clients(OutOfPaper(), EngineLimits()) == "OutOfPaper"
    assert traceback_for_operators(OutOfPaper(), EngineLimits()).endswith("OutOfPaper\n")
