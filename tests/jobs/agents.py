"""Workflows whose plans grow while they run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from orchestration.adapters.command import command
from orchestration.sdk import Context, Done, Next, StageSkipped, each, parallel, stage, when, workflow


def _write(inputs: dict[str, Any], line: str) -> None:
    if "journal" in inputs:
        with Path(inputs["journal"]).open("a") as journal:
            journal.write(line + "\n")


def _wait(inputs: dict[str, Any]) -> None:
    while "gate" in inputs and not Path(inputs["gate"]).exists():
        time.sleep(0.01)


@stage
def agent_turn(ctx: Context, inputs: dict[str, Any], number: int = 1, *, notes: list[str] | None = None) -> Any:
    """Take one turn; the last one is `turns`."""
    _write(inputs, f"{ctx.stage_name} {number}")
    if number == inputs.get("gated_turn"):
        _wait(inputs)
    notes = [*(notes or ()), f"turn {number}"]
    if number >= inputs["turns"]:
        return Done({"notes": notes})
    return Next(agent_turn.given(number + 1, notes=notes), output=number)


@stage
def report(ctx: Context, inputs: dict[str, Any]) -> Any:
    """Return the outputs of all turns."""
    _write(inputs, "report")
    return dict(ctx.results)


@workflow()
def agent_loop(prompt: str, *, turns: int = 3, **params: Any) -> Any:
    return [agent_turn, report]


@stage
def many(ctx: Context, inputs: dict[str, Any]) -> Any:
    """Add as many parallel stages as asked for."""
    return Next(parallel(*(leaf.named(f"leaf_{number}") for number in range(inputs["count"]))))


@stage
def leaf(ctx: Context, inputs: dict[str, Any]) -> str:
    """Return the name of the stage."""
    return ctx.stage_name


@workflow()
def fan(prompt: str, *, count: int) -> Any:
    return [many, report]


@stage
def left(ctx: Context, inputs: dict[str, Any]) -> Any:
    """Add two steps."""
    return Next(leaf.named("left_1"), leaf.named("left_2"))


@stage
def right(ctx: Context, inputs: dict[str, Any]) -> Any:
    """Add three steps."""
    return Next(leaf.named("right_1"), parallel(leaf.named("right_2"), leaf), leaf.named("right_3"))


@workflow()
def siblings(prompt: str) -> Any:
    return [parallel(left, right), report]


def is_large(ctx: Context, inputs: dict[str, Any]) -> bool:
    """Return whether the amount is large."""
    return bool(inputs["amount"] > 100)


async def has_report(ctx: Context, inputs: dict[str, Any]) -> bool:
    """Return whether an earlier stage has an output."""
    return "review" in ctx.results


@stage
def review(ctx: Context, inputs: dict[str, Any]) -> str:
    """Review a large amount."""
    return "reviewed"


@stage
def book(ctx: Context, inputs: dict[str, Any]) -> str:
    """Book a small amount."""
    return "booked"


@stage
def unneeded(ctx: Context, inputs: dict[str, Any]) -> None:
    """Do nothing."""
    raise StageSkipped("Nothing to do")


@workflow()
def branches(prompt: str, *, amount: int) -> Any:
    return [when(is_large, review, otherwise=book), when(has_report, leaf), unneeded]


@stage
def values(ctx: Context, inputs: dict[str, Any]) -> list[int]:
    """Return the values of the items."""
    return list(range(inputs["count"]))


@stage
def double(ctx: Context, inputs: dict[str, Any], value: int) -> int:
    """Return twice the value; fail for those in `broken`."""
    _write(inputs, f"{ctx.stage_name}")
    if value == inputs.get("gated_item"):
        _wait(inputs)
    if value in inputs.get("broken", ()):
        raise ValueError(f"No {value}")
    return value * 2


@stage
def total(ctx: Context, inputs: dict[str, Any]) -> Any:
    """Return what the items have returned."""
    found = ctx.results["double"]
    return {"sum": sum(each or 0 for each in found), "failed": found.failed, "errors": found.errors()}


@workflow()
def mapped_behind_a_skip(prompt: str, **params: Any) -> Any:
    return [values, unneeded, each(double, of=values)]


@workflow()
def mapped(prompt: str, *, count: int, limit: int | None = None, allow_failed: float = 0, **params: Any) -> Any:
    return [values, each(double, of=values, limit=limit, allow_failed=allow_failed), total]


@workflow()
def mapped_three_times(prompt: str, *, count: int, **params: Any) -> Any:
    beside = each(double.named("beside"), of=values)
    later = each(double.named("later"), of=values, allow_failed=1)
    return [values, parallel(each(double, of=values, allow_failed=1), beside), later, total]


@stage
def prepare(ctx: Context, inputs: dict[str, Any]) -> None:
    """Write that it runs."""
    _write(inputs, "prepare")


@stage
def train(ctx: Context, inputs: dict[str, Any]) -> None:
    """Write that it runs, and wait."""
    _write(inputs, "train")
    _wait(inputs)


@workflow()
def trains(prompt: str, *, gpu: str, **params: Any) -> Any:
    print_stage = command("echo", "one", "two", name="print")
    return [prepare, train.in_pool(gpu), print_stage.in_pool(gpu), read_output]


@stage
def read_output(ctx: Context, inputs: dict[str, Any]) -> list[str]:
    """Return what the command has written."""
    words: list[str] = ctx.results["print"]["stdout"].split()
    return words
