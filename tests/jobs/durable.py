"""Workflows with steps that are remembered, and with atomic stages."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

from django.contrib.auth.models import Group
from django.db import OperationalError, transaction

from orchestration import signals
from orchestration.sdk import Context, StaleAttempt, stage, workflow

PAUSE_SECONDS = 0.01


def write(inputs: dict[str, Any], line: str) -> None:
    with Path(inputs["journal"]).open("a") as journal:
        journal.write(line + "\n")


def wait(inputs: dict[str, Any]) -> None:
    while not Path(inputs["gate"]).exists():
        time.sleep(PAUSE_SECONDS)


@stage
def agent(ctx: Context, inputs: dict[str, Any]) -> list[str]:
    answers: list[str] = []

    def ask(question: list[str]) -> str:
        write(inputs, f"paid {len(question)} {ctx.attempt}")
        return f"answer {len(question)}"

    for turn in range(inputs["turns"]):
        answers.append(ctx.step(f"turn-{turn}", ask, list(answers)))
        if turn == inputs["pauses_after"]:
            write(inputs, f"pauses {ctx.attempt}")
            wait(inputs)
    return answers


@workflow()
def sync_agent(prompt: str, *, turns: int = 4, pauses_after: int = 1, **files: str) -> Any:
    return [agent]


@stage
async def async_agent_stage(ctx: Context, inputs: dict[str, Any]) -> list[str]:
    async def ask(number: int) -> str:
        write(inputs, f"paid {number} {ctx.attempt}")
        return f"answer {number}"

    answers = list(await asyncio.gather(*(ctx.step(f"turn-{number}", ask, number) for number in range(2))))
    write(inputs, f"pauses {ctx.attempt}")
    await asyncio.to_thread(wait, inputs)
    answers.append(await ctx.step("turn-2", lambda number: ask(number), 2))
    return answers


@workflow()
def async_agent(prompt: str, **files: str) -> Any:
    return [async_agent_stage]


@stage
def zombie_stage(ctx: Context, inputs: dict[str, Any]) -> str:
    write(inputs, f"begins {ctx.attempt}")
    if ctx.attempt > 1:
        return ctx.step("once", lambda: f"paid by {ctx.attempt}")  # type: ignore[no-any-return]
    wait(inputs)
    try:
        ctx.step("once", lambda: write(inputs, "paid by the zombie"))
    except StaleAttempt as error:
        write(inputs, f"refused {error}")
    return "zombie"


@workflow()
def zombie(prompt: str, **files: str) -> Any:
    return [zombie_stage]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def lose_answer() -> None:
    raise OperationalError("server closed the connection unexpectedly")


@stage(atomic=True)
def book(ctx: Context, inputs: dict[str, Any]) -> str:
    """Write a row of the user, and die once where the prompt says."""
    name = f"{ctx.workflow_id} {ctx.attempt}"
    Group.objects.create(name=name)
    ctx.log(f"Booked {name}")
    ctx.progress(0.5, "half")
    write(inputs, f"writes {ctx.attempt}")
    if ctx.attempt > 1:
        return name
    match inputs["prompt"]:
        case "killed while it writes":
            die()
        case "killed before its commit":
            signals.stage_completed.connect(lambda **_: die(), weak=False)
        case "killed after its commit":
            transaction.on_commit(die)
        case "answer to its commit lost":
            transaction.on_commit(lose_answer)
        case "transaction ended by the database":
            raise OperationalError("could not serialize access")
        case "fails":
            raise ValueError("No seat")
        case "waits":
            wait(inputs)
    return name


@stage
def after(ctx: Context, inputs: dict[str, Any]) -> Any:
    return [ctx.results["book"], list(Group.objects.filter(name__startswith=ctx.workflow_id).values_list("name"))]


@workflow()
def booked(prompt: str, **files: str) -> Any:
    return [book, after]
