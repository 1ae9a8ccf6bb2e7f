"""Stages that are coroutines."""

from __future__ import annotations

import asyncio
from typing import Any

from orchestration.sdk import Context, stage, workflow


@stage
async def talk(ctx: Context, inputs: dict[str, Any]) -> dict[str, Any]:
    ctx.log("Hello")
    await asyncio.sleep(0)
    ctx.progress(0.5, "half way")
    return {"results": dict(ctx.results), "key": ctx.idempotency_key, "prompt": inputs["prompt"]}


@workflow(pool="jobs")
def converse(prompt: str) -> Any:
    return [talk]


@stage
async def dispute(ctx: Context, inputs: dict[str, Any]) -> None:
    async def log() -> None:
        ctx.log("from a task")

    await asyncio.create_task(log())
    await asyncio.to_thread(ctx.log, "from a thread")
    raise ValueError("enough")


@workflow(pool="jobs")
def argue(prompt: str) -> Any:
    return [dispute]
