"""A run of `make serve` or `manage.py serve`, as on the command line."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import psutil

from tests.harness.ports import free_port
from tests.harness.processes import command_of, has_ended
from tests.harness.programs import PROJECT_DIR
from tests.harness.server import clean_environment
from tests.harness.services import Driver
from tests.harness.static_files import shared_static_files
from tests.harness.waiting import wait_until

MAKE = ("make", "--no-print-directory", "serve")
MANAGE = (sys.executable, "manage.py", "serve")

START_TIMEOUT_SECONDS = 60
STOP_TIMEOUT_SECONDS = 40


class Serve:
    """One run of a command that serves, in a new process group and without a terminal.

    Args:
        command: The command.
        var_dir: Its var folder.
        directory: Its working directory.
        output: The file of its output and its errors; by default one beside the var folder.
        variables: Additional variables.
    """

    def __init__(
        self,
        command: tuple[str, ...],
        *,
        var_dir: Path,
        directory: Path = PROJECT_DIR,
        output: Path | None = None,
        **variables: str,
    ) -> None:
        self.var_dir = var_dir
        self.port = free_port()
        self.host = variables.get("MAHAVISHNU_HOST", "127.0.0.1")
        self._output = output or var_dir.with_suffix(".output")
        self.environment = {
            **clean_environment(),
            "MAHAVISHNU_VAR_DIR": str(var_dir),
            "MAHAVISHNU_PORT": str(self.port),
            **variables,
        }
        self.environment |= shared_static_files(self.environment)
        with self._output.open("wb") as file:
            self.main = subprocess.Popen(
                command,
                cwd=directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    @property
    def address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://{self.address}"

    def output(self) -> str:
        # Reading a device such as /dev/full does not end.
        return self._output.read_text(encoding="utf-8", errors="replace") if self._output.is_file() else ""

    def wait_for(self, text: str) -> None:
        wait_until(lambda: text in self.output(), timeout_seconds=START_TIMEOUT_SECONDS, what=self.output)

    def wait_healthy(self) -> dict[str, Any]:
        """Wait until `/health` answers with success, and return its answer."""
        health: dict[str, Any] = {}

        def healthy() -> bool:
            assert self.main.poll() is None, self.output()
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{self.address}/health") as answer:
                health.update(json.load(answer))
            return bool(health)

        wait_until(healthy, timeout_seconds=START_TIMEOUT_SECONDS, what=self.output)
        return health

    def start_workflow(self, workflow_id: str) -> None:
        """Start a workflow from another process that uses this run's folder."""
        with self.driver() as driver:
            driver.services.create_workflow(workflow_id=workflow_id, adapter="python", prompt="", stages=["only"])
            driver.services.start_workflow(workflow_id=workflow_id)

    @contextlib.contextmanager
    def driver(self) -> Iterator[Driver]:
        """Yield another process that uses this run's folder."""
        environment = {**clean_environment(), "MAHAVISHNU_VAR_DIR": str(self.var_dir)}
        driver = Driver(environment=environment, log_path=self.var_dir / "driver.log")
        try:
            yield driver
        finally:
            driver.close()

    def pids(self, name: str) -> list[int]:
        """Return the process of a program, after those that it has replaced."""
        return [int(pid) for pid in re.findall(rf"\b{name} started \(pid (\d+)\)", self.output())]

    def signal_group(self, number: signal.Signals) -> None:
        os.killpg(self.main.pid, number)

    def processes(self) -> list[psutil.Process]:
        """Return every process that was started with this run's folder, at any level of the process tree."""
        # Valkey overwrites its environment with its title; its working directory identifies it.
        return processes_where(
            lambda process: str(self.var_dir) in (process.environ().get("MAHAVISHNU_VAR_DIR"), process.cwd())
        )

    def process(self, word: str) -> psutil.Process:
        """Return the one process with this word in its command line."""
        (found,) = self.processes_with(word)
        return found

    def processes_with(self, word: str) -> list[psutil.Process]:
        """Return every process with this word in its command line."""
        return [process for process in self.processes() if word in (command_of(process) or "")]

    def manager(self) -> psutil.Process:
        """Return the process that has started daphne."""
        return self.process("daphne").parents()[0]

    def wait_ended(self) -> None:
        """Wait until no process of this run is left.

        Raises:
            TimeoutError: if one is; the message has its command line.
        """
        self.main.wait(timeout=STOP_TIMEOUT_SECONDS)
        wait_none_left(self.processes, output=self.output)

    def close(self) -> None:
        """Kill the command, then the processes that it has started. It may lack the variable that identifies them."""
        self.main.kill()
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.main.wait(timeout=STOP_TIMEOUT_SECONDS)


def processes_where(condition: Callable[[psutil.Process], bool]) -> list[psutil.Process]:
    """Return the processes of this machine for which the condition holds. Those of other users are left out."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            if condition(process):
                found.append(process)
    return found


def wait_none_left(find: Callable[[], list[psutil.Process]], *, output: Callable[[], str]) -> None:
    """Wait until `find` finds no process.

    Raises:
        TimeoutError: if one is left; the message has its command line and the output.
    """
    # Listing all processes of the machine takes long: do it again only when those that were found have ended.
    while found := find():
        wait_until(
            lambda found=found: all(map(has_ended, found)),  # type: ignore[misc]
            timeout_seconds=STOP_TIMEOUT_SECONDS,
            what=lambda found=found: f"the end of {list(map(command_of, found))}, after {output()}",  # type: ignore[misc]
        )


class StartServe(Protocol):
    """The fixture `serve`."""

    def __call__(
        self,
        command: tuple[str, ...] = MANAGE,
        *,
        folder: str = "var",
        migrated: bool = True,
        output: Path | None = None,
        **variables: str,
    ) -> Serve:
        """Start the command, with a var folder below the folder of the test.

        Args:
            command: The command.
            folder: The path of the var folder.
            output: The file of its output; by default one beside the var folder.
            migrated: Whether the var folder contains a migrated database; otherwise it does not exist.
            variables: Additional variables.
        """
