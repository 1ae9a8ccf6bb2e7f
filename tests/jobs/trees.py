"""Workflows with sub-runs."""

from __future__ import annotations

import os
import signal
import time
from itertools import count
from pathlib import Path
from typing import Any

from orchestration.sdk import Context, Retry, Run, WaitForRuns, each, run_workflow, stage, workflow


def _write(inputs: dict[str, Any], line: str) -> None:
    if "journal" in inputs:
        with Path(inputs["journal"]).open("a") as journal:
            journal.write(line + "\n")


@stage
def score(ctx: Context, inputs: dict[str, Any]) -> Any:
    """Return twice the number, or fail if there is none; wait for the gate first, if there is one."""
    _write(inputs, f"score {inputs.get('number')}")
    while "gate" in inputs and not Path(inputs["gate"]).exists():
        time.sleep(0.01)
    if inputs.get("fails") and not Path(inputs["fails"]).exists():
        raise ValueError("No score")
    return inputs["number"] * 2


@workflow()
def assess(prompt: str, *, number: int, fails: str = "", **params: Any) -> Any:
    return [score]


@stage
def model(ctx: Context, inputs: dict[str, Any]) -> Any:
    """Return parameters of `assess`."""
    return {"number": inputs["number"]}


@stage
def conclude(ctx: Context, inputs: dict[str, Any]) -> Any:
    """Return the outputs of all stages."""
    return dict(ctx.results)


def _rest(params: dict[str, Any]) -> dict[str, Any]:
    return {name: params[name] for name in ("journal", "gate", "fails") if name in params}


@workflow()
def step_of_plan(prompt: str, *, number: int = 4, **params: Any) -> Any:
    return [model, run_workflow(assess, of=model, **_rest(params)), conclude]


@stage
def fan_out(ctx: Context, inputs: dict[str, Any]) -> Any:
    """Start sub-runs and wait for them."""
    _write(inputs, "fan_out")
    pool = inputs.get("child_pool")
    runs = [
        ctx.start(assess, key=f"n{number}", pool=pool, number=number, **_rest(inputs))
        for number in range(inputs["count"])
    ]
    return WaitForRuns(runs, allow_failed=inputs.get("allow_failed", 0))


@workflow()
def fans(prompt: str, *, count: int, **params: Any) -> Any:
    return [fan_out, conclude]


@workflow()
def scored(prompt: str, *, number: int | None) -> Any:
    """Fail without a number."""
    return [score]


@stage
def wait_in_order(ctx: Context, inputs: dict[str, Any]) -> Any:
    """Start a sub-run for each different number, and wait for them in the order of the numbers."""
    order = inputs["order"]
    runs = {number: ctx.start(scored, key=f"n{number}", number=number) for number in set(order)}
    return WaitForRuns((runs[number] for number in order), allow_failed=inputs["allow_failed"])


@workflow()
def fans_in_order(prompt: str, *, order: list[int | None], allow_failed: int = 0) -> Any:
    return [wait_in_order]


WRONG_WAITS: dict[str, Any] = {
    "no list": lambda: {"runs": None},
    "no run": lambda: {"runs": [Run("wf_1"), "wf_2"]},
    "too many": lambda: {"runs": map(Run, map(str, count()))},
    "allow_failed": lambda: {"runs": [], "allow_failed": -1},
    "of another": lambda: {"runs": Run("wf_1")},
}


@stage(retries=Retry(max_attempts=3))
def wait_wrongly(ctx: Context, inputs: dict[str, Any]) -> Any:
    """Wait for what is no sub-run of this stage."""
    return WaitForRuns(**WRONG_WAITS[inputs["wrong"]]())


@stage(atomic=True, retries=Retry(max_attempts=3))
def wait_atomically(ctx: Context, inputs: dict[str, Any]) -> Any:
    """Wait in a transaction, in which no sub-run can start."""
    return WaitForRuns([])


@workflow()
def waits_wrongly(prompt: str, *, wrong: str) -> Any:
    return [wait_atomically.named("wait_wrongly") if wrong == "atomic" else wait_wrongly]


@stage
def go_down(ctx: Context, inputs: dict[str, Any]) -> Any:
    """Start this workflow again, one deeper."""
    if inputs["levels"] == 0:
        return "bottom"
    params = {**_rest(inputs), "levels": inputs["levels"] - 1}
    return WaitForRuns(ctx.start(deep, **params))


@workflow()
def deep(prompt: str, *, levels: int, **params: Any) -> Any:
    return [go_down]


@stage
def numbers(ctx: Context, inputs: dict[str, Any]) -> Any:
    """Return parameters of several sub-runs."""
    return [{"number": 1}, {"number": 2}, {"number": 3}]


@workflow()
def mapped_runs(prompt: str) -> Any:
    return [numbers, each(run_workflow(assess, name="scores"), of=numbers, limit=2), collect]


@stage
def collect(ctx: Context, inputs: dict[str, Any]) -> Any:
    """Return the outputs of the items."""
    return list(ctx.results["scores"])


@stage
def twice(ctx: Context, inputs: dict[str, Any]) -> Any:
    """Start one sub-run twice."""
    ctx.start(assess, number=1)
    ctx.start(assess, number=2)


@workflow()
def starts_twice(prompt: str) -> Any:
    return [twice]


@stage
def leave(ctx: Context, inputs: dict[str, Any]) -> Any:
    """Start a sub-run that stays, and one that does not, and wait for neither."""
    ctx.start(assess, key="stays", detached=True, number=1)
    return WaitForRuns(ctx.start(assess, key="goes", number=2))


@workflow()
def leaves_one(prompt: str) -> Any:
    return [leave]


@workflow()
def bad_step(prompt: str) -> Any:
    return [run_workflow(assess, number="four")]


@stage
def fan_out_and_die(ctx: Context, inputs: dict[str, Any]) -> Any:
    """Start sub-runs, and kill the process the first time."""
    waits = fan_out(ctx, inputs)
    mark = Path(inputs["dies"])
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return waits


@workflow()
def fans_and_dies(prompt: str, *, count: int, **params: Any) -> Any:
    return [fan_out_and_die]


@stage
def wait_below(ctx: Context, inputs: dict[str, Any]) -> Any:
    """Start a run below this one; the lowest waits for the gate."""
    pool = inputs["child_pool"]
    if inputs["levels"] == 0:
        return WaitForRuns(ctx.start(assess, pool=pool, number=1, **_rest(inputs)))
    params = {**_rest(inputs), "levels": inputs["levels"] - 1, "child_pool": pool}
    return WaitForRuns(ctx.start(deep_wait, pool=pool, **params))


@workflow()
def deep_wait(prompt: str, *, levels: int, **params: Any) -> Any:
    return [wait_below]
