"""Workflows that the tests run in real workers."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Literal, NoReturn

from orchestration.sdk import Context, Retry, parallel, stage, workflow
from tests.jobs import (
    agents,
    durable,
    hostile,
    input_classes,
    questions,
    secrets,
    streaming,
    trees,
    typed_stages,
)
from tests.jobs.wide import wide

__all__ = [
    "agents",
    "durable",
    "hostile",
    "input_classes",
    "questions",
    "secrets",
    "streaming",
    "trees",
    "typed_stages",
    "wide",
]

PAUSE_SECONDS = 0.01

FORKS_TIMEOUT_SECONDS = 4
"""Long enough to start two processes on a busy machine."""


def write_journal(inputs: dict[str, Any], line: str) -> None:
    """Append a line to the journal of the test."""
    with Path(inputs["journal"]).open("a") as journal:
        journal.write(line + "\n")


def wait_for_gate(gate: str) -> None:
    """Wait until the test creates this file."""
    while not Path(gate).exists():
        time.sleep(PAUSE_SECONDS)


@stage
def first(ctx: Context, inputs: dict[str, Any]) -> None:
    return None


@stage
def second(ctx: Context, inputs: dict[str, Any]) -> None:
    return None


@stage
def third(ctx: Context, inputs: dict[str, Any]) -> None:
    return None


@workflow()
def three_empty_stages(prompt: str, **params: Any) -> Any:
    return [first, second, third]


@workflow()
def one_empty_stage(prompt: str, **params: Any) -> Any:
    return [first]


@workflow()
def typed(prompt: str, *, count: int = 3, region: Literal["eu", "us"] = "eu", ticket: str = "") -> Any:
    return [first]


@stage
def plan(ctx: Context, inputs: dict[str, Any]) -> Any:
    return {"inputs": inputs, "attempt": ctx.attempt}


@stage
def left(ctx: Context, inputs: dict[str, Any]) -> str:
    ctx.log(f"Looking left of {ctx.results['plan']['inputs']['prompt']}")
    return "left"


@stage
async def right(ctx: Context, inputs: dict[str, Any]) -> str:
    return "right"


@stage
def review(ctx: Context, inputs: dict[str, Any]) -> Any:
    ctx.progress(0.5, "Half way")
    ctx.progress(0.75, "Throttled, and not the last")
    ctx.progress(1, "Sent at the end")
    return [ctx.results["left"], ctx.results["right"]]


@workflow()
def look_around(prompt: str, **params: Any) -> Any:
    return [plan, parallel(left, right), review]


@stage
def logs(ctx: Context, inputs: dict[str, Any]) -> None:
    logging.getLogger(inputs["logger"]).error("%s: %s", ctx.workflow_id, inputs["prompt"])


@workflow()
def logging_prompt(prompt: str, **params: Any) -> Any:
    return [logs]


@stage
def gate(ctx: Context, inputs: dict[str, Any]) -> int:
    write_journal(inputs, f"begins {ctx.attempt} {ctx.idempotency_key}")
    wait_for_gate(inputs["gate"])
    write_journal(inputs, f"ends {ctx.attempt}")
    return ctx.attempt


@workflow()
def gated(prompt: str, **params: Any) -> Any:
    return [first, gate, third]


@stage
def report(ctx: Context, inputs: dict[str, Any]) -> None:
    write_journal(inputs, "begins")
    wait_for_gate(inputs["gate"])
    write_journal(inputs, "continues")
    ctx.log("Still here")
    ctx.progress(0.5)
    write_journal(inputs, f"has read {len(ctx.results)} results")


@workflow()
def reporting(prompt: str, **params: Any) -> Any:
    return [first, report, third]


@workflow()
def side_by_side(prompt: str, **params: Any) -> Any:
    return [parallel(gate, first), parallel(second, third)]


@workflow(timeout_seconds=0.5)
def overdue(prompt: str, **params: Any) -> Any:
    return [gate]


@stage
def cooperative(ctx: Context, inputs: dict[str, Any]) -> None:
    write_journal(inputs, "begins")
    while not ctx.cancelled():
        time.sleep(PAUSE_SECONDS)
    write_journal(inputs, "is cancelled")


@workflow()
def cancellable(prompt: str, **params: Any) -> Any:
    return [cooperative]


def run_without_end() -> NoReturn:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)
    while True:
        time.sleep(PAUSE_SECONDS)


@stage
def uncooperative(ctx: Context, inputs: dict[str, Any]) -> NoReturn:
    write_journal(inputs, "begins")
    run_without_end()


@workflow()
def uncancellable(prompt: str, **params: Any) -> Any:
    return [uncooperative]


@stage(timeout_seconds=FORKS_TIMEOUT_SECONDS, retries=Retry(max_attempts=2, backoff_seconds=0.05))
def forks(ctx: Context, inputs: dict[str, Any]) -> NoReturn:
    for own_session in (False, True):
        child = subprocess.Popen(["sleep", "600"], start_new_session=own_session)
        write_journal(inputs, f"{child.pid}")
    write_journal(inputs, f"{os.getpid()}")
    run_without_end()


@stage(timeout_seconds=FORKS_TIMEOUT_SECONDS)
def close_files(ctx: Context, inputs: dict[str, Any]) -> NoReturn:
    os.closerange(3, 1024)
    write_journal(inputs, "has closed all files")
    run_without_end()


@workflow()
def closed_files(prompt: str, **params: Any) -> Any:
    return [close_files]


@workflow()
def overdue_with_children(prompt: str, **params: Any) -> Any:
    return [forks]


class Unpicklable(Exception):
    def __init__(self) -> None:
        super().__init__("It broke\nin two lines")
        self.callback = lambda: None

    def __reduce__(self) -> NoReturn:
        raise TypeError("not this one")


@stage
def misbehaving(ctx: Context, inputs: dict[str, Any]) -> Any:
    match inputs["prompt"]:
        case "too large":
            return "x" * 2_000_000
        case "not JSON":
            return {"an object": object()}
        case "not a number":
            return float("nan")
        case "unpicklable":
            raise Unpicklable
        case "no message":
            raise LookupError
        case "exits":
            raise SystemExit(3)
        case "NUL":
            return "\x00"


@workflow()
def failing(prompt: str, **params: Any) -> Any:
    return [misbehaving]


@stage(retries=Retry(max_attempts=3, backoff_seconds=0.05))
def flaky(ctx: Context, inputs: dict[str, Any]) -> int:
    if ctx.attempt < inputs["succeeds_at"]:
        raise ConnectionError(f"No answer to attempt {ctx.attempt}")
    return ctx.attempt


@workflow()
def retried(prompt: str, **params: Any) -> Any:
    return [first, flaky]


@stage(retries=Retry(max_attempts=3, backoff_seconds=60))
def waits(ctx: Context, inputs: dict[str, Any]) -> NoReturn:
    raise ConnectionError("No answer")


@workflow()
def waiting_to_retry(prompt: str, **params: Any) -> Any:
    return [waits]


PR_GET_DUMPABLE = 3
"""From linux/prctl.h."""


@stage
def report_environment(ctx: Context, inputs: dict[str, Any]) -> dict[str, Any]:
    names = [sys.executable, "-c", r"import os; print('\n'.join(os.environ))"]
    return {
        "own": list(os.environ),
        "inherited": subprocess.run(names, capture_output=True, text=True, check=True).stdout.split(),
        "dumpable": ctypes.CDLL(None).prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) if sys.platform == "linux" else 0,
    }


@workflow()
def reported_environment(prompt: str, **params: Any) -> Any:
    return [report_environment]
