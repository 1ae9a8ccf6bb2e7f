"""Programs of the project, each in a process that is forked from one with all imported packages.

A program runs as with `python -m`, but it does not import other packages, which takes 0.7 s of CPU. The project itself
is imported after the fork, because its settings depend on the variables of the program. Two differences remain: the
programs of one test process have the same hash seed, and `multiprocessing` ends the process without finalizing the
interpreter. With the variable `PYTHONPATH`, a program starts a new interpreter.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

PROJECT_DIR = Path(__file__).resolve().parent.parent.parent

# None of them imports Twisted's reactor: it opens files, which the forked processes would share.
PRELOADED_MODULES = [
    "autobahn.twisted.websocket",
    "celery.bin.celery",
    "channels.routing",
    "channels_redis.pubsub",
    "daphne.ws_protocol",
    "django.contrib.admin.sites",
    "django.contrib.staticfiles.handlers",
    "django.core.asgi",
    "kombu.transport.redis",
    "msgspec",
    "psycopg",
    "tenacity",
    "twisted.internet.asyncioreactor",
    "twisted.internet.endpoints",
    "twisted.web.http",
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
    """`python -m MODULE ARGUMENT …` in a new session.

    Args:
        environment: All variables of the process.
        log_path: The file to which standard output and standard error are appended.
    """

    def __init__(self, module: str, *arguments: str, environment: Mapping[str, str], log_path: Path) -> None:
        super().__init__(run_module, module, arguments, dict(environment), str(log_path), log_path=log_path)


def run_module(module: str, arguments: Sequence[str], environment: Mapping[str, str], log_path: str) -> None:
    """Run a module as a program, in a forked process."""
    enter(environment, log_path)
    if "PYTHONPATH" in environment:
        # Only the start of an interpreter reads this variable and runs `sitecustomize`.
        os.execve(sys.executable, [sys.executable, "-m", module, *arguments], environment)
    sys.argv = [module, *arguments]
    sys.path[0] = str(PROJECT_DIR)
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        leave()


def enter(environment: Mapping[str, str], log_path: str) -> None:
    """Give a forked process its own session, variables and output file."""
    os.setsid()
    os.chdir(PROJECT_DIR)
    os.environ.clear()
    os.environ.update(environment)
    with open(os.devnull, "rb") as nothing, open(log_path, "ab") as log:
        os.dup2(nothing.fileno(), 0)
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    stdout: Any = sys.stdout
    stdout.reconfigure(line_buffering=True)


def leave() -> None:
    """Do what an interpreter does when it exits. `multiprocessing` ends a process without that."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
