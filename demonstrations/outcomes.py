"""Stages with outcomes other than success: failure, retries, cancellation, a time limit."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from orchestration.sdk import Context, Retry, Run, StageFailed, stage


@stage
def prepare(ctx: Context, inputs: dict[str, Any]) -> str:
    """Succeed at once."""
    return f"Prepared {ctx.workflow_id}"


@stage(retries=Retry(max_attempts=5, backoff_seconds=0.5))
def succeed_in_the_end(ctx: Context, inputs: dict[str, Any]) -> dict[str, int]:
    """Fail the first attempts, with an error for clients."""
    if ctx.attempt <= inputs["failures"]:
        raise StageFailed(f"Attempt {ctx.attempt} fails: failures={inputs['failures']}")
    return {"attempts": ctx.attempt}


@stage
def read_missing_file(ctx: Context, inputs: dict[str, Any]) -> str:
    """Raise a built-in error: clients receive its message, and operators see its traceback."""
    return Path("a file that does not exist").read_text()


@stage
def tidy_up(ctx: Context, inputs: dict[str, Any]) -> None:
    """Never run, because the stage before it fails."""


@stage
def work_until_cancelled(ctx: Context, inputs: dict[str, Any]) -> None:
    """Work, and check regularly whether the run was cancelled."""
    started = time.monotonic()
    while True:
        ctx.raise_if_cancelled()
        seconds = time.monotonic() - started
        ctx.progress(1 - 1 / (1 + seconds), f"{seconds:.1f} s of work")
        time.sleep(0.1)


@stage
def cancel_run(ctx: Context, inputs: dict[str, Any]) -> None:
    """Cancel the run that this stage belongs to. Any code that has its id can do that."""
    deadline = time.monotonic() + inputs["after_seconds"]
    while time.monotonic() < deadline:
        ctx.raise_if_cancelled()
        time.sleep(0.05)
    Run(ctx.workflow_id).cancel(reason="Time is up")
