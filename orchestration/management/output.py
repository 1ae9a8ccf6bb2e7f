"""The base of management commands: arguments in any locale, output that cannot control the terminal, system checks."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, TextIO

from django.core.management.base import BaseCommand, OutputWrapper

from orchestration.checks import without_workflows
from orchestration.text import argument_text, escape_text


class EscapedOutput(OutputWrapper):
    """Writes hidden characters as escapes. Line breaks stay, so use `escape_line` for text that must be one line.

    Attributes:
        stream: The stream to write to, without escapes.
    """

    def __init__(self, out: TextIO) -> None:
        super().__init__(out)
        self.stream = out

    def write(  # type: ignore[override]  # As Django's stubs.
        self, msg: str = "", style_func: Callable[[str], str] | None = None, ending: str | None = None
    ) -> None:
        """Write a message. `style_func` may add colours: it is applied afterwards."""
        super().write(escape_text(msg), style_func, ending)

    def discard(self) -> None:
        """Discard what is written from now on, and flushed at exit: the reader has exited, as in `| head`."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())


class EscapingCommand(BaseCommand):
    """A command whose `stdout` and `stderr` escape what they write, and whose arguments are UTF-8 in every locale.

    Every command of this project derives from it. It runs the system checks, except the check that imports users'
    code: an error in that must stop no command that does not need it.
    """

    stdout: EscapedOutput
    stderr: EscapedOutput

    def __init__(self, stdout: TextIO | None = None, stderr: TextIO | None = None, **options: Any) -> None:
        options["no_color"] = options.get("no_color", False) or not wants_colors(os.environ)
        super().__init__(stdout, stderr, **options)
        style_func = self.stderr.style_func
        self.stdout, self.stderr = EscapedOutput(stdout or sys.stdout), EscapedOutput(stderr or sys.stderr)
        self.stderr.style_func = style_func

    def run_from_argv(self, argv: list[str]) -> None:
        """Run the command as on the command line."""
        try:
            decoded = list(map(argument_text, argv))
        except UnicodeDecodeError as error:
            self.stderr.write(f"CommandError: Argument {error.object!r} is not text in UTF-8.")
            sys.exit(1)
        try:
            try:
                super().run_from_argv(decoded)
            finally:
                self.stdout.flush()
        except BrokenPipeError:
            self.stdout.discard()
            self.stderr.discard()
            sys.exit(1)

    def write_note(self, line: str) -> None:
        """Write a line that is not an error to standard error, so that standard output has only the result."""
        self.stderr.write(line, style_func=lambda text: text)

    def check(self, *args: Any, **options: Any) -> None:
        """Run the system checks. With `tags`, run all of those checks."""
        with nullcontext() if options.get("tags") else without_workflows():
            super().check(*args, **options)

    def execute(self, *args: Any, **options: Any) -> str | None:
        """Run the command; `call_command` may name other streams."""
        if stdout := options.pop("stdout", None):
            self.stdout = EscapedOutput(stdout)
        if stderr := options.pop("stderr", None):
            self.stderr = EscapedOutput(stderr)
        return super().execute(*args, **options)


def wants_colors(variables: Mapping[str, str]) -> bool:
    """Return whether a terminal may show colours: neither `NO_COLOR` (https://no-color.org) nor `TERM` forbids it."""
    return not variables.get("NO_COLOR") and variables.get("TERM") != "dumb"
