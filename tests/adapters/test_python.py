"""The adapter `python`: functions and coroutines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connections

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


def test_event_loop_of_a_plain_stage_can_use_all_of_its_context() -> None:
    from orchestration.sdk import Run
    from tests.adapters.attempt_runner import claim_attempt, claim_queued
    from tests.jobs.coroutines import running_its_own_loop

    attempt = claim_attempt(running_its_own_loop)
    attempt.complete(attempt.run())
    attempt = claim_queued(Run(attempt.claim.workflow.pk))
    assert attempt.run() == {"results": {"prepare": "prepared"}, "status": "running"}
    assert attempt.messages == ["from the loop", "from a task"]
    assert attempt.progress == [(0.5, "half way")]


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("valkey")
def test_event_loop_of_a_plain_stage_can_start_and_await_other_runs() -> None:
    from orchestration.sdk import Run
    from tests.adapters.attempt_runner import claim_attempt
    from tests.jobs.coroutines import starting_another

    assert Run(claim_attempt(starting_another).run()).workflow.status == "running"
    asyncio.run(sync_to_async(connections.close_all)())


async def test_blocking_methods_on_an_event_loop_name_the_method_to_await() -> None:
    from orchestration.sdk import Run
    from tests.jobs.workflows import one_empty_stage

    run = Run("wf_any")
    calls: dict[str, Callable[[], Any]] = {
        "astart": one_empty_stage.start,
        "acancel": run.cancel,
        "aretry": run.retry,
        "aanswer": lambda: run.answer("approve", True),
        "aanswer_link": lambda: run.answer_link("approve"),
        "asignal": lambda: run.signal("paid"),
        "awaited": run.wait,
    }
    for instead, call in calls.items():
        with pytest.raises(SynchronousOnlyOperation, match=rf"would block the event loop: use `await {instead}\(…\)`"):
            call()
