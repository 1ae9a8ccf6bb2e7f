"""A workflow with a wide step, for the tests of real workers and for the benchmarks."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from orchestration import dispatch
from orchestration.sdk import Context, each, parallel, stage, workflow


@stage
def begin(ctx: Context, inputs: dict[str, Any]) -> str:
    return "begun"


def empty_part(ctx: Context, inputs: dict[str, Any]) -> None:
    return None


def reading_part(ctx: Context, inputs: dict[str, Any]) -> int:
    return len(ctx.results["begin"])


def journaling_part(ctx: Context, inputs: dict[str, Any]) -> None:
    """Write the name to the journal. The part `kill_at` makes this process die before it dispatches a message."""
    with Path(inputs["journal"]).open("a") as journal:
        journal.write(f"{ctx.stage_name}\n")
    if ctx.stage_name == inputs["kill_at"]:
        dispatch.dispatch = lambda messages: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment, return-value]


@stage
def numbers(ctx: Context, inputs: dict[str, Any]) -> list[int]:
    return list(range(inputs["count"]))


@stage
def empty_item(ctx: Context, inputs: dict[str, Any], number: int) -> None:
    return None


@stage
def end(ctx: Context, inputs: dict[str, Any]) -> None:
    return None


PARTS = {"empty": empty_part, "reading": reading_part, "journaling": journaling_part}


@workflow()
def wide(prompt: str, *, width: int, part: str = "empty", **params: Any) -> Any:
    """Run `width` parts in parallel between two stages."""
    return [begin, parallel(*(stage(name=f"part_{number}")(PARTS[part]) for number in range(width))), end]


@workflow()
def wide_map(prompt: str, *, count: int, limit: int) -> Any:
    """Run a stage for each of `count` numbers."""
    return [numbers, each(empty_item, of=numbers, limit=limit), end]
