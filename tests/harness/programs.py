"""Programs of the project, each in a process that is forked from one with all imported packages.

A program runs as with `python`, but it does not import other packages, which takes 0.7 s of CPU. The project itself
is imported after the fork, because its settings depend on the variables of the program. Two differences remain: the
programs of one test process have the same hash seed, and `multiprocessing` ends the process without finalizing the
interpreter. With the variable `PYTHONPATH`, a program starts a new interpreter.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import multiprocessing
import multiprocessing.connection
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

PROJECT_DIR = Path(__file__).resolve().parent.parent.parent

RUN_TIMEOUT_SECONDS = 120

CODE_FOLDER_VARIABLE = "TESTS_CODE_FOLDER"
"""Names a folder with code of users. It is put on the path of a program, and of the interpreters that this starts, as
with `PYTHONPATH`, but without the start of a new interpreter for the program itself."""

# None of them imports Twisted's reactor, which opens files that the forked processes would share, or reads a setting.
# `ninja` does, so what it imports is here.
PRELOADED_MODULES = [
    "autobahn.twisted.websocket",
    "celery.bin.celery",
    "channels.db",
    "channels.layers",
    "channels.routing",
    "channels_redis.pubsub",
    "daphne.ws_protocol",
    "dj_database_url",
    "django.contrib.admin.sites",
    "django.contrib.auth.management",
    "django.contrib.auth.tokens",
    "django.contrib.sessions.middleware",
    "django.contrib.staticfiles.checks",
    "django.contrib.staticfiles.finders",
    "django.contrib.staticfiles.storage",
    "django.core.asgi",
    "django.db.backends.sqlite3.base",
    "django.db.migrations",
    "django.forms.models",
    "django.middleware.common",
    "django.middleware.security",
    "django.test",
    "jwt",
    "kombu.transport.redis",
    "markdown_it",
    "msgspec",
    "psycopg",
    "pydantic.dataclasses",
    "pydantic.json_schema",
    "pydantic.root_model",
    "pydantic.type_adapter",
    "statistics",
    "tenacity",
    "twisted.internet.asyncioreactor",
    "twisted.internet.endpoints",
    "twisted.web.http",
    "whitenoise.base",
    "whitenoise.compress",
    "whitenoise.storage",
]

fork_context = multiprocessing.get_context("forkserver")
fork_context.set_forkserver_preload(PRELOADED_MODULES)

# Held while a process is started or asked for its exit code: both read exit codes, and each can be read only once.
_exit_code_lock = threading.RLock()


class ForkedProcess:
    """A process that calls `target(*arguments)`, with the methods of `subprocess.Popen`.

    Args:
        log_path: The file of its output, which exists from now on.
    """

    def __init__(self, target: Callable[..., None], *arguments: Any, log_path: Path) -> None:
        log_path.touch()
        self._process = fork_context.Process(target=target, args=arguments, daemon=True)
        with _exit_code_lock:
            self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Return the exit code, or None while the process runs."""
        with _exit_code_lock:
            return self._process.exitcode

    def wait(self, timeout: float) -> int:
        """Return the exit code.

        Raises:
            subprocess.TimeoutExpired: if the process still runs after `timeout` seconds.
        """
        multiprocessing.connection.wait([self._process.sentinel], timeout)
        if (code := self.poll()) is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            # The process has ended, and its exit code is on its way, if there is none with this id.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Program(ForkedProcess):
    """`python ARGUMENT …` in a new session.

    Args:
        arguments: Those of the interpreter: `-m MODULE`, `-c CODE` or the path of a file, and those of the program.
        environment: All variables of the process.
        log_path: The file to which standard output and standard error are appended.
        error_path: The file to which standard error is appended, if it is another one.
        input_path: The file that standard input reads; by default it is empty.
    """

    def __init__(
        self,
        *arguments: str,
        environment: Mapping[str, str],
        log_path: Path,
        error_path: Path | None = None,
        input_path: Path | None = None,
    ) -> None:
        files = (str(log_path), str(error_path or log_path), str(input_path or os.devnull))
        super().__init__(run_interpreter, arguments, dict(environment), files, log_path=log_path)


def run_to_end(
    *arguments: str, environment: Mapping[str, str], input: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program and wait for its end, as `subprocess.run` does.

    Raises:
        subprocess.TimeoutExpired: after `RUN_TIMEOUT_SECONDS`. The program was killed.
    """
    with tempfile.TemporaryDirectory() as folder:
        output, errors, source = (Path(folder) / name for name in ("output", "errors", "input"))
        source.write_text(input or "", encoding="utf-8")
        files = {"log_path": output, "error_path": errors, "input_path": source}
        program = Program(*arguments, environment=environment, **files)
        try:
            code = program.wait(timeout=RUN_TIMEOUT_SECONDS)
        finally:
            program.kill()
        return subprocess.CompletedProcess(["python", *arguments], code, output.read_text(), errors.read_text())


def run_interpreter(arguments: Sequence[str], environment: Mapping[str, str], files: tuple[str, str, str]) -> None:
    """Do in a forked process what the interpreter does with these arguments."""
    log_path, error_path, input_path = files
    enter(environment, log_path, error_path=error_path, input_path=input_path)
    if "PYTHONPATH" in environment:
        # Only the start of an interpreter reads this variable and runs `sitecustomize`.
        os.execve(sys.executable, [sys.executable, *arguments], environment)
    sys.path[0] = str(PROJECT_DIR)
    try:
        match arguments:
            case ["-m", module, *others]:
                sys.argv = [module, *others]
                runpy.run_module(module, run_name="__main__", alter_sys=True)
            case ["-c", code, *others]:
                sys.argv = ["-c", *others]
                exec(code, {"__name__": "__main__"})
            case [path, *others]:
                sys.argv = [path, *others]
                runpy.run_path(path, run_name="__main__")
    finally:
        leave()


def enter(
    environment: Mapping[str, str], log_path: str, *, error_path: str | None = None, input_path: str = os.devnull
) -> None:
    """Give a forked process its own session, variables and files."""
    os.setsid()
    os.chdir(PROJECT_DIR)
    os.environ.clear()
    os.environ.update(environment)
    if code_folder := environment.get(CODE_FOLDER_VARIABLE):
        sys.path.append(code_folder)
        os.environ["PYTHONPATH"] = code_folder
    with open(input_path, "rb") as source, open(log_path, "ab") as log, open(error_path or log_path, "ab") as errors:
        os.dup2(source.fileno(), 0)
        os.dup2(log.fileno(), 1)
        os.dup2(errors.fileno(), 2)
    # `multiprocessing` has replaced it by a file of its choice.
    sys.stdin = io.TextIOWrapper(io.FileIO(0, closefd=False), encoding="utf-8")
    stdout: Any = sys.stdout
    stdout.reconfigure(line_buffering=True)


def leave() -> None:
    """Do what an interpreter does when it exits. `multiprocessing` ends a process without that."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
