"""The adapter `python`: functions and coroutines."""

from __future__ import annotations

import os

import pytest

pytestmark = pytest.mark.django_db


def test_a_coroutine_has_all_of_its_context() -> None:
    from tests.engine.attempting import attempt_at
    from tests.engine.jobs.coroutines import converse

    attempt = attempt_at(converse, "a greeting")
    output = attempt.run()
    assert output == {"results": {}, "key": f"{attempt.claim.workflow.pk}/talk", "prompt": "a greeting"}
    assert attempt.messages == ["Hello"]
    assert attempt.progress == [(0.5, "half way")]
    assert "DJANGO_ALLOW_ASYNC_UNSAFE" not in os.environ
