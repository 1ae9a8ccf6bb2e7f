"""Workflows for the tests of `run_inline`. `calls` lists what the stages did."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

from django.contrib.auth.models import User
from django.db import IntegrityError, connection

from orchestration import services
from orchestration.adapters.command import command
from orchestration.sdk import Context, Retry, StageFailed, parallel, stage, workflow

calls: list[str] = []

effects: list[Callable[[Context], Any]] = []
"""What the stage `charge` does in its attempts, in order; its last attempts do nothing."""


def raise_in_turn(*errors: BaseException) -> None:
    """Make the stage `charge` raise these errors in its first attempts."""

    def raising(error: BaseException) -> Any:
        def effect(ctx: Context) -> None:
            raise error

        return effect

    effects[:] = map(raising, errors)


@stage
def reserve(ctx: Context, inputs: dict[str, Any]) -> Any:
    calls.append(f"reserve {ctx.attempt}")
    item = inputs.get("item", "tea")
    ctx.log(f"Reserving {item}")
    ctx.progress(0.5, "half")
    return {"item": item, "prompt": inputs["prompt"]}


@stage(retries=Retry(max_attempts=3, backoff_seconds=100), timeout_seconds=60)
def charge(ctx: Context, inputs: dict[str, Any]) -> Any:
    calls.append(f"charge {ctx.attempt}")
    effect = effects.pop(0) if effects else lambda ctx: None
    effect(ctx)
    return ctx.idempotency_key


@stage
async def pack(ctx: Context, inputs: dict[str, Any]) -> str:
    calls.append("pack")
    ctx.log("Packing")
    return f"a box with {ctx.results['reserve']['item']}"


@stage
def send(ctx: Context, inputs: dict[str, Any]) -> Any:
    return dict(ctx.results)


@workflow(timeout_seconds=1000)
def order(prompt: str, *, item: str = "tea") -> Any:
    return [reserve, parallel(charge, pack), send]


@stage
def fail(ctx: Context, inputs: dict[str, Any]) -> None:
    raise ValueError("No stock")


@workflow()
def failing_order(prompt: str) -> Any:
    return [fail, send]


@stage(retries=Retry(max_attempts=3))
def reject(ctx: Context, inputs: dict[str, Any]) -> None:
    raise StageFailed("The card is expired", may_retry=False)


@workflow()
def rejected_order(prompt: str) -> Any:
    return [reject]


@stage
def cancel(ctx: Context, inputs: dict[str, Any]) -> None:
    services.cancel_workflow(workflow_id=ctx.workflow_id, reason="Sold out")
    calls.append(f"cancelled: {ctx.cancelled()}")
    ctx.raise_if_cancelled()


@workflow()
def cancelled_order(prompt: str) -> Any:
    return [cancel, send]


@stage(timeout_seconds=0.05)
def sleep(ctx: Context, inputs: dict[str, Any]) -> None:
    time.sleep(0.1)


@workflow()
def slow_order(prompt: str) -> Any:
    return [sleep]


@stage
def wait_until_cancelled(ctx: Context, inputs: dict[str, Any]) -> None:
    while not ctx.cancelled():
        time.sleep(0.01)


@workflow(timeout_seconds=0.1)
def overdue_order(prompt: str) -> Any:
    return [wait_until_cancelled]


@stage(retries=Retry(max_attempts=10, backoff_seconds=100, max_backoff_seconds=100))
def call_bank(ctx: Context, inputs: dict[str, Any]) -> None:
    raise ConnectionError("The bank is closed")


@workflow(timeout_seconds=250)
def patient_order(prompt: str) -> Any:
    return [call_bank]


@stage
def return_object(ctx: Context, inputs: dict[str, Any]) -> Any:
    return object()


@workflow()
def odd_order(prompt: str) -> Any:
    return [return_object]


@stage(retries=Retry(max_attempts=2))
def insert_twice(ctx: Context, inputs: dict[str, Any]) -> None:
    User.objects.create(username="buyer")
    if ctx.attempt == 1:
        User.objects.create(username="buyer")


@workflow()
def inserting_order(prompt: str) -> Any:
    return [insert_twice]


@stage
def ignore_database_error(ctx: Context, inputs: dict[str, Any]) -> None:
    User.objects.create(username="buyer")
    with contextlib.suppress(IntegrityError):
        User.objects.create(username="buyer")


@workflow()
def careless_order(prompt: str) -> Any:
    return [ignore_database_error]


@stage
def use_autocommit(ctx: Context, inputs: dict[str, Any]) -> bool:
    return connection.in_atomic_block


@workflow()
def committing_order(prompt: str) -> Any:
    return [use_autocommit]


@workflow(pin="release")
def pinned_order(prompt: str) -> Any:
    return [reserve]


@workflow(adapter="command")
def printed_order(prompt: str) -> Any:
    return [command("echo", "Hello"), command("sh", "-c", "exit 3", name="fails")]


@stage(retries=Retry(max_attempts=2))
def reply(ctx: Context, inputs: dict[str, Any]) -> None:
    """Write two streams; fail in the first attempt."""
    with ctx.stream("answer") as out:
        out.write("Grüße, ")
        if ctx.attempt == 1:
            raise ConnectionError("The model is unavailable")
        out.write("Ada")
    with ctx.stream("sound", content_type="bytes") as out:
        out.write(b"\x00\x01")


@workflow()
def chat(prompt: str) -> Any:
    """Answer."""
    return [reply]
