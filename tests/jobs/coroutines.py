"""Stages that are coroutines."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from orchestration.sdk import Context, RunTimeout, stage, workflow
from tests.jobs.workflows import one_empty_stage


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


@stage
def prepare(ctx: Context, inputs: dict[str, Any]) -> str:
    return "prepared"


@stage
def own_loop(ctx: Context, inputs: dict[str, Any]) -> Any:
    async def agent() -> Any:
        async def log() -> None:
            ctx.log("from a task")

        ctx.log("from the loop")
        ctx.progress(0.5, "half way")
        await asyncio.create_task(log())
        run = ctx.run_in_db_thread(lambda: one_empty_stage.start(pool="jobs"))
        return {"results": dict(ctx.results), "status": ctx.run_in_db_thread(lambda: run.workflow.status)}

    return asyncio.run(agent())


@workflow(pool="jobs")
def running_its_own_loop(prompt: str) -> Any:
    return [prepare, own_loop]


@stage
def start_another(ctx: Context, inputs: dict[str, Any]) -> Any:
    async def agent() -> str:
        return (await one_empty_stage.astart(pool="jobs")).workflow_id

    return asyncio.run(agent())


@workflow(pool="jobs")
def starting_another(prompt: str) -> Any:
    return [start_another]


@stage
def wait_for_another(ctx: Context, inputs: dict[str, Any]) -> None:
    with suppress(RunTimeout):
        one_empty_stage.start(pool=inputs["other_pool"]).wait(timeout_seconds=0)


@stage
async def await_another(ctx: Context, inputs: dict[str, Any]) -> None:
    run = await one_empty_stage.astart(pool=inputs["other_pool"])
    with suppress(RunTimeout):
        await run.awaited(timeout_seconds=0)


@workflow(pool="jobs")
def waiting_for_another(prompt: str, *, other_pool: str) -> Any:
    return [wait_for_another if prompt == "wait" else await_another]
