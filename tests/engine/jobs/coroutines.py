"""Stages that are coroutines."""

from __future__ import annotations

import asyncio
from typing import Any

from orchestration.definitions import stage, workflow
from orchestration.engine.context import Context


@stage
async def talk(ctx: Context, inputs: dict[str, Any]) -> dict[str, Any]:
    ctx.log("Hello")
    await asyncio.sleep(0)
    ctx.progress(0.5, "half way")
    return {"results": dict(ctx.results), "key": ctx.idempotency_key, "prompt": inputs["prompt"]}


@workflow(pool="jobs")
def converse(prompt: str) -> Any:
    return [talk]
