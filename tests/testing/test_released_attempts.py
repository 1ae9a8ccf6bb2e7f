"""Attempts that a stage gives back in `run_inline`: the run, or the test, still ends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from orchestration import services
from orchestration.models import FailedAttempt
from orchestration.sdk import HandOver, MissingRequirement
from orchestration.testing import inline_worker, run_inline
from tests.testing import shop

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


@pytest.fixture(autouse=True)
def empty_shop() -> Iterator[None]:
    shop.calls.clear()
    yield
    shop.effects.clear()


def test_stage_that_hands_over_runs_again_without_using_up_an_attempt() -> None:
    shop.raise_in_turn(HandOver(), ConnectionError("down"), ConnectionError("down"))
    result = run_inline(shop.order)
    assert (result.status, result.stages["charge"].attempts) == ("completed", 4)
    assert result.stages["charge"].failed_attempts[0] == "The worker was stopped: HandOver"
    assert FailedAttempt.objects.order_by("pk")[0].reason == "released"
    assert [event.name for event in result.events].count("workflow.stage_released") == 1


def test_stage_that_always_hands_over_fails_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inline_worker, "MAX_HAND_OVERS", 2)
    shop.raise_in_turn(*[HandOver()] * 100)
    result = run_inline(shop.order)
    assert result.status == "failed"
    assert result.error.startswith("The stage charge failed: The stage raised HandOver, but its worker does not stop.")
    reasons = list(FailedAttempt.objects.order_by("pk").values_list("reason", flat=True))
    assert reasons == ["released"] * 2 + ["failed"] * 3


@pytest.mark.parametrize("needs", ["a GPU", "a GPU, attempt {}"])
def test_missing_requirement_of_a_stage_ends_the_test(needs: str) -> None:
    shop.raise_in_turn(*[MissingRequirement(needs.format(number)) for number in range(100)])
    with pytest.raises(services.StageNotRunnable, match=r"cannot run the stage: it needs a GPU"):
        run_inline(shop.order)
    assert shop.calls.count("charge 1") == 1
    assert "charge 2" not in shop.calls
