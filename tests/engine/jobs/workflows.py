"""Workflows that the tests run in real workers."""

from __future__ import annotations

from typing import Any

from orchestration.definitions import parallel, stage, workflow
from orchestration.engine.context import Context


@stage
def first(ctx: Context, inputs: dict[str, Any]) -> None:
    return None


@stage
def second(ctx: Context, inputs: dict[str, Any]) -> None:
    return None


@stage
def third(ctx: Context, inputs: dict[str, Any]) -> None:
    return None


@workflow(pool="jobs")
def three_empty_stages(prompt: str, **params: Any) -> Any:
    return [first, second, third]


@stage
def plan(ctx: Context, inputs: dict[str, Any]) -> Any:
    return {"inputs": inputs, "attempt": ctx.attempt, "key": ctx.idempotency_key}


@stage
def left(ctx: Context, inputs: dict[str, Any]) -> str:
    ctx.log("Looking left")
    return f"left of {ctx.results['plan']['inputs']['prompt']}"


@stage
def right(ctx: Context, inputs: dict[str, Any]) -> str:
    ctx.progress(0.5, "Half way")
    return "right"


@stage
def review(ctx: Context, inputs: dict[str, Any]) -> Any:
    return dict(ctx.results)


@workflow(pool="jobs", timeout_seconds=600)
def look_around(prompt: str, **params: Any) -> Any:
    return [plan, parallel(left, right), review]
