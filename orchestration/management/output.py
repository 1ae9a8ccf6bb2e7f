"""Output of management commands: what workflows and clients wrote cannot control the terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TextIO

from django.core.management.base import BaseCommand, OutputWrapper

from orchestration.text import escape_text


class EscapedOutput(OutputWrapper):
    """Writes hidden characters as escapes. Line breaks stay, so use `escape_line` for text that must be one line."""

    def write(  # type: ignore[override]  # As Django's stubs.
        self, msg: str = "", style_func: Callable[[str], str] | None = None, ending: str | None = None
    ) -> None:
        """Write a message. `style_func` may add colours: it is applied afterwards."""
        super().write(escape_text(msg), style_func, ending)


class EscapingCommand(BaseCommand):
    """A command whose `stdout` and `stderr` escape what they write. Every command of this project derives from it."""

    def __init__(self, stdout: TextIO | None = None, stderr: TextIO | None = None, **options: Any) -> None:
        super().__init__(stdout, stderr, **options)
        style_func = self.stderr.style_func
        self.stdout, self.stderr = EscapedOutput(stdout or sys.stdout), EscapedOutput(stderr or sys.stderr)
        self.stderr.style_func = style_func

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run the command; `call_command` may name other streams."""
        if stdout := options.pop("stdout", None):
            self.stdout = EscapedOutput(stdout)
        if stderr := options.pop("stderr", None):
            self.stderr = EscapedOutput(stderr)
        return super().execute(*args, **options)
