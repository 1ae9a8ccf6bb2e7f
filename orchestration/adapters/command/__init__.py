"""The adapter `command`: each stage runs a program."""

from __future__ import annotations

from orchestration.adapters.command.adapter import CommandAdapter
from orchestration.adapters.command.definition import command

__all__ = ["CommandAdapter", "command"]
