"""Workflows of the adapter `command`."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from orchestration.adapters.command import command
from orchestration.sdk import Context, Next, Retry, StageDefinition, each, stage, when, workflow


@workflow(adapter="command", pool="jobs")
def one_command(prompt: str, *, argv: list[str], options: dict[str, Any]) -> Any:
    return [command(*argv, **options)]


a_query = StageDefinition(name="a_query", call="", options={"sql": "SELECT 1"})


@stage(retries=Retry(max_attempts=2, backoff_seconds=0))
def read_output(ctx: Context, inputs: dict[str, Any]) -> Any:
    """Return the lines that the command before has written."""
    return ctx.results["print"]["stdout"].split()


@stage
def add_command(ctx: Context, inputs: dict[str, Any]) -> Any:
    """Add a command, and a function that reads what it wrote."""
    return Next(command("echo", "added", name="print"), read_output)


def wants_more(ctx: Context, inputs: dict[str, Any]) -> bool:
    """Return whether the run has the parameter `more`."""
    return bool(inputs.get("more"))


@workflow(adapter="command", pool="jobs")
def no_command(prompt: str) -> Any:
    return [a_query]


SAY_VALUE = """
import json, sys
print("said", json.load(sys.stdin)["arguments"][0])
"""


def _mixed() -> Any:
    return [
        command("echo", "one", "two", name="print"),
        read_output,
        each(command(sys.executable, "-c", SAY_VALUE, name="say"), of=read_output),
        when(wants_more, command("echo", "more", name="more"), otherwise=add_command),
    ]


@workflow(pool="jobs")
def functions_and_commands(prompt: str, *, more: bool = False) -> Any:
    return _mixed()


@workflow(adapter="command", pool="jobs")
def commands_and_functions(prompt: str, *, more: bool = False) -> Any:
    return _mixed()


@workflow(pool="jobs")
def atomic_command(prompt: str) -> Any:
    return [replace(command("echo"), atomic=True)]
