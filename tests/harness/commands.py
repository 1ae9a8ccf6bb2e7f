"""Management commands in a server's driver process: as on the command line, without the start of a process."""

from __future__ import annotations

import contextlib
import io
import logging
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

from tests.harness.programs import PROJECT_DIR, RUN_TIMEOUT_SECONDS
from tests.harness.server import MahavishnuServer

RUN = "from tests.harness.commands import run\nresult = run(arguments, input)"


def command(server: MahavishnuServer, *arguments: str, input: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a management command as `MahavishnuServer.manage` does, in a process that is already running.

    The driver makes no other call until the command ends. Tests of what begins or ends with the process use `manage`.
    """
    done = server.services_driver.execute(RUN, arguments=arguments, input=input)
    return subprocess.CompletedProcess(["manage.py", *arguments], done["code"], done["stdout"], done["stderr"])


def run_with_closed_output(server: MahavishnuServer, *arguments: str, **environment: str) -> tuple[int, str]:
    """Run a management command whose reader has exited, and return its exit code and its standard error."""
    with subprocess.Popen(
        [sys.executable, "manage.py", *arguments],
        cwd=PROJECT_DIR,
        env={**server.environment, **environment},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        return process.wait(timeout=RUN_TIMEOUT_SECONDS), process.stderr.read()


def run(arguments: Sequence[str], input: str | None) -> dict[str, Any]:
    """Run a command in this process, and return its output and exit code."""
    from django.conf import settings
    from django.core.management import execute_from_command_line
    from django.utils.log import configure_logging

    # redis-py creates this logger with a handler at its first connection, which the publisher's thread may open while
    # the logging of this process is configured. It leaves an existing one as it is.
    logging.getLogger("push_response")
    stdout, stderr, code = io.StringIO(), io.StringIO(), 0
    try:
        with standard_input(input or ""), contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            execute_from_command_line(["manage.py", *arguments])
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    finally:
        # The command has directed the log to `stderr`.
        configure_logging(settings.LOGGING_CONFIG, settings.LOGGING)
    return {"code": code, "stdout": stdout.getvalue(), "stderr": stderr.getvalue()}


@contextlib.contextmanager
def standard_input(text: str) -> Iterator[None]:
    """Replace `sys.stdin` by a file, because commands also read from its descriptor."""
    previous = sys.stdin
    with tempfile.TemporaryFile("w+", encoding="utf-8") as file:
        file.write(text)
        file.seek(0)
        sys.stdin = file
        try:
            yield
        finally:
            sys.stdin = previous
