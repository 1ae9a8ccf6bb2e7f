"""Workflows whose stages write streams of chunks."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from orchestration.sdk import Context, WaitForRuns, stage, workflow

PAUSE_SECONDS = 0.01


def wait_for(path: str) -> None:
    """Wait until the test creates this file."""
    while not Path(path).exists():
        time.sleep(PAUSE_SECONDS)


@stage
def answer(ctx: Context, inputs: dict[str, Any]) -> str:
    """Write the texts of `parts`; wait for the gate before the last one."""
    *first, last = inputs["parts"]
    with ctx.stream("answer") as out:
        for part in first:
            out.write(part)
        wait_for(inputs["gate"])
        out.write(last)
    return "said"


@workflow()
def answering(prompt: str, **params: Any) -> Any:
    return [answer]


@stage(name="draw/twice")
def draw(ctx: Context, inputs: dict[str, Any]) -> None:
    with ctx.stream("picture", content_type="bytes") as picture, ctx.stream("title") as title:
        picture.write(bytes(range(256)))
        title.write("Ein Bild: ä🎈")


@workflow()
def drawing(prompt: str, **params: Any) -> Any:
    return [draw]


@stage
def die_once(ctx: Context, inputs: dict[str, Any]) -> None:
    """Write, with `filler`, and be killed in the first attempt once the gate is open."""
    with ctx.stream("answer") as out:
        out.write(f"attempt {ctx.attempt}: {inputs.get('filler', '')}")
        if ctx.attempt == 1:
            wait_for(inputs["gate"])
            os.kill(os.getpid(), signal.SIGKILL)
        out.write("whole")


@workflow()
def dying_once(prompt: str, **params: Any) -> Any:
    return [die_once]


@stage
def repeat(ctx: Context, inputs: dict[str, Any]) -> None:
    """Write a part many times; then wait for the gate."""
    with ctx.stream("answer") as out:
        for _ in range(inputs["times"]):
            out.write(inputs["part"])
        wait_for(inputs["gate"])


@workflow()
def repeating(prompt: str, **params: Any) -> Any:
    return [repeat]


@stage
def burst(ctx: Context, inputs: dict[str, Any]) -> None:
    """Wait for the gate; then write a part many times at once."""
    with ctx.stream("answer") as out:
        wait_for(inputs["gate"])
        out.write(inputs["part"] * inputs["times"])


@workflow()
def bursting(prompt: str, **params: Any) -> Any:
    return [burst]


@stage
def delegate(ctx: Context, inputs: dict[str, Any]) -> WaitForRuns:
    """Write all `parts`, and wait for a sub-run that waits for the gate."""
    with ctx.stream("answer") as out:
        for part in inputs["parts"]:
            out.write(part)
    return WaitForRuns(ctx.start(answering, pool=inputs["child_pool"], parts=["", ""], gate=inputs["gate"]))


@workflow()
def delegating(prompt: str, **params: Any) -> Any:
    return [delegate]


@stage
def consult(ctx: Context, inputs: dict[str, Any]) -> None:
    """Write all `parts` in a durable step, ask a question, and write the answer."""

    def plan() -> None:
        with ctx.stream("plan") as out:
            for part in inputs["parts"]:
                out.write(part)

    ctx.step("plan", plan)
    answer = ctx.ask("remark", str)
    with ctx.stream("answer") as out:
        out.write(f"attempt {ctx.attempt}: {answer}")
        wait_for(inputs["gate"])


@workflow()
def consulting(prompt: str, **params: Any) -> Any:
    return [consult]


@stage
def chunked(ctx: Context, inputs: dict[str, Any]) -> None:
    """Write the time into each of many streams, again and again, until the run is cancelled."""
    streams = [ctx.stream(str(number)) for number in range(inputs["streams"])]
    due = time.monotonic()
    while not ctx.cancelled():
        for stream in streams:
            stream.write(f"{time.time():.4f}|")
        due += inputs["pause_seconds"]
        time.sleep(max(due - time.monotonic(), 0))


@workflow()
def chunking(prompt: str, **params: Any) -> Any:
    return [chunked]
