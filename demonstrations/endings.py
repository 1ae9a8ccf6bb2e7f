"""Stages that fail, that fail and then succeed, and that are cancelled."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from orchestration.adapters import StageFailed
from orchestration.sdk import Retry, Run, stage
from orchestration.sdk.context import Context


@stage
def prepare(ctx: Context, inputs: dict[str, Any]) -> str:
    """Succeed at once."""
    return f"Prepared {ctx.workflow_id}"


@stage(retries=Retry(max_attempts=5, backoff_seconds=0.5))
def succeed_in_the_end(ctx: Context, inputs: dict[str, Any]) -> dict[str, int]:
    """Fail as often as was asked for, in words that clients see."""
    failures = int(inputs.get("failures", 2))
    if ctx.attempt <= failures:
        raise StageFailed(f"Attempt {ctx.attempt} fails, as {failures} were asked to")
    return {"attempts": ctx.attempt}


@stage
def read_what_is_missing(ctx: Context, inputs: dict[str, Any]) -> str:
    """Raise an error of Python's own: clients are told what it says, and operators see its traceback."""
    return Path("a file that is not there").read_text()


@stage
def tidy_up(ctx: Context, inputs: dict[str, Any]) -> None:
    """Never run."""


@stage
def work_for_ever(ctx: Context, inputs: dict[str, Any]) -> None:
    """Work, and look now and then whether that is still wanted."""
    began = time.monotonic()
    while True:
        ctx.raise_if_cancelled()
        seconds = time.monotonic() - began
        ctx.progress(1 - 1 / (1 + seconds), f"{seconds:.1f} s of work")
        time.sleep(0.1)


@stage
def lose_patience(ctx: Context, inputs: dict[str, Any]) -> None:
    """Cancel the run that this stage belongs to, as anybody may who knows its id."""
    deadline = time.monotonic() + float(inputs.get("after_seconds", 3.0))
    while time.monotonic() < deadline:
        ctx.raise_if_cancelled()
        time.sleep(0.05)
    Run(ctx.workflow_id).cancel(reason="Out of patience")
