"""Workflows of the adapter `command`."""

from __future__ import annotations

from typing import Any

from orchestration.adapters.command import command
from orchestration.sdk import Context, stage, workflow


@workflow(adapter="command", pool="jobs")
def one_command(prompt: str, *, argv: list[str], options: dict[str, Any]) -> Any:
    return [command(*argv, **options)]


@stage
def a_function(ctx: Context, inputs: dict[str, Any]) -> None:
    return None


@workflow(adapter="command", pool="jobs")
def no_command(prompt: str) -> Any:
    return [a_function]
