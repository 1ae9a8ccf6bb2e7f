"""Stages that start processes with the standard library."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import django
from django.db import connection

from orchestration.sdk import Context, stage, workflow


def square(number: int) -> int:
    return number * number


@stage
def compute(ctx: Context, inputs: dict[str, Any]) -> Any:
    context = multiprocessing.get_context(inputs["prompt"])
    # A spawned process imports this module anew, and the module needs Django.
    with context.Pool(1, initializer=django.setup) as pool:
        of_pool = pool.map(square, range(4))
    with ProcessPoolExecutor(1, mp_context=context, initializer=django.setup) as executor:
        of_executor = list(executor.map(square, range(4)))
    return [of_pool, of_executor]


@workflow()
def computed(prompt: str) -> Any:
    return [compute]


def report(ctx: Context, answers: Any) -> None:
    inherits_connection = connection.connection is not None
    ctx.log("From a forked process")
    answers.put([inherits_connection, sorted(ctx.results)])


@stage
def fork_and_report(ctx: Context, inputs: dict[str, Any]) -> Any:
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    process = context.Process(target=report, args=(ctx, answers))
    process.start()
    process.join()
    ctx.log("From the stage")
    return [process.exitcode, answers.get()]


@stage
async def fork_and_report_on_a_loop(ctx: Context, inputs: dict[str, Any]) -> Any:
    return fork_and_report(ctx, inputs)


@workflow()
def reported_by_a_fork(prompt: str) -> Any:
    return [fork_and_report, fork_and_report_on_a_loop]


@stage
def leave_processes(ctx: Context, inputs: dict[str, Any]) -> list[int]:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=time.sleep, args=(600,), daemon=daemon) for daemon in (False, True)]
    for process in processes:
        process.start()
    return [process.pid or 0 for process in processes]


@workflow()
def leaving_processes(prompt: str) -> Any:
    return [leave_processes]
