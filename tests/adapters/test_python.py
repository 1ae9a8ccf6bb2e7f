"""The adapter `python`: functions and coroutines."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.django_db


def test_coroutine_stage_can_use_all_of_its_context() -> None:
    from tests.adapters.attempt_runner import claim_attempt
    from tests.jobs.coroutines import converse

    attempt = claim_attempt(converse, "a greeting")
    output = attempt.run()
    assert output == {"results": {}, "key": f"{attempt.claim.workflow.pk}/talk", "prompt": "a greeting"}
    assert attempt.messages == ["Hello"]
    assert attempt.progress == [(0.5, "half way")]


def test_coroutine_stage_exception_fails_the_attempt() -> None:
    from tests.adapters.attempt_runner import claim_attempt
    from tests.jobs.coroutines import argue

    attempt = claim_attempt(argue)
    with pytest.raises(ValueError, match="enough"):
        attempt.run()
    assert attempt.messages == ["from a task", "from a thread"]
