"""A real daphne on a free port, with its own folder, database and limits."""

from __future__ import annotations

import itertools
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import ClassVar

from mahavishnu_site.serve import procfile
from tests.harness.ports import HOST, free_port
from tests.harness.programs import Program, run_to_end
from tests.harness.services import Driver, Services
from tests.harness.static_files import shared_static_files
from tests.harness.valkey import Valkey
from tests.harness.waiting import wait_until

START_TIMEOUT_SECONDS = 60
STOP_TIMEOUT_SECONDS = 20

# The only variables that a server inherits from the shell that runs the tests: others would make two runs differ.
INHERITED_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "COVERAGE_PROCESS_CONFIG")


def clean_environment() -> dict[str, str]:
    """Return the shell's environment without any variable that configures the project."""
    return {name: os.environ[name] for name in INHERITED_VARIABLES if name in os.environ}


class ServerStartError(Exception):
    """Raised when a server exited during its start, or did not answer in time."""

    def __init__(self, log: str) -> None:
        super().__init__(f"the server did not start; its log ends with:\n{log[-4000:]}")


class MahavishnuServer:
    """One server; its port, folder and database survive `kill()` and `restart()`.

    Args:
        var_dir: An existing folder, for this server alone.
        database_url: A migrated database.
        redis_url: A Redis that no server with another database uses.
        environment: Additional variables, such as `MAHAVISHNU_MAX_CONNECTIONS`.
        processes: Number of processes; with more than one, `pid` is that of their parent.
        valkey: The Valkey behind `redis_url`, if the test may control it. This class does not close it.
    """

    running: ClassVar[list[MahavishnuServer]] = []
    """Every server that was started and not closed. Their logs are added to the report of a failed test."""

    def __init__(
        self,
        *,
        var_dir: Path,
        database_url: str,
        redis_url: str,
        environment: Mapping[str, str] | None = None,
        processes: int = 1,
        valkey: Valkey | None = None,
    ) -> None:
        self.var_dir = var_dir
        self.database_url = database_url
        self.redis_url = redis_url
        self._valkey = valkey
        self.port = free_port()
        variables = {
            **clean_environment(),
            "DJANGO_SETTINGS_MODULE": "mahavishnu_site.settings",
            "MAHAVISHNU_VAR_DIR": str(var_dir),
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "MAHAVISHNU_PROCESSES": str(processes),
            # Tests look for the line of each of their requests, and share servers.
            "MAHAVISHNU_LOG_REPEAT_SECONDS": "0",
            **(environment or {}),
        }
        variables |= shared_static_files(variables)
        self.environment = procfile.environment(variables, host=HOST, port=self.port)
        self.processes = processes
        self._part = "web" if processes == 1 else "web_processes"
        self._log_path = var_dir / "server.log"
        self._process: Program | None = None
        self._drivers: list[Driver] = []
        self._driver_numbers = itertools.count(1)
        self._services_lock = threading.Lock()
        self._services_driver: Driver | None = None

    @property
    def ws_url(self) -> str:
        return f"ws://{HOST}:{self.port}"

    @property
    def http_url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def valkey(self) -> Valkey:
        """The Valkey behind this server. A test that started the server may kill, freeze and restart it."""
        assert self._valkey is not None, "this server was given a Redis URL"
        return self._valkey

    @property
    def services(self) -> Services:
        """The services, called in the process of `services_driver`."""
        return self.services_driver.services

    @property
    def services_driver(self) -> Driver:
        """A driver process that lives as long as this object; a killed one is replaced."""
        with self._services_lock:
            if self._services_driver is None or not self._services_driver.is_alive():
                self._services_driver = self.driver()
            return self._services_driver

    def driver(self) -> Driver:
        """Start another process that can change the server's state."""
        number = next(self._driver_numbers)
        driver = Driver(environment=self.environment, log_path=self.var_dir / f"driver-{number}.log")
        self._drivers.append(driver)
        return driver

    def start(self) -> None:
        """Start the `web` or the `web_processes` line of the Procfile and return when it answers.

        Raises:
            ServerStartError: if it exits, or does not answer in time.
        """
        assert self._process is None, "this server is already running"
        words = [Template(word).substitute(self.environment) for word in shlex.split(procfile.commands()[self._part])]
        assert words[:3] == ["exec", sys.executable, "-m"]
        self._process = Program(*words[2:], environment=self.environment, log_path=self._log_path)
        if self not in self.running:
            self.running.append(self)
        try:
            wait_until(self._answers_or_ended, timeout_seconds=START_TIMEOUT_SECONDS, what="the server's answer")
        except TimeoutError:
            self.kill()
            raise ServerStartError(self.log_text()) from None
        if self._process.poll() is not None:
            self._process = None
            raise ServerStartError(self.log_text())

    def terminate(self) -> int:
        """Stop the server, as an operator would, and return its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait_ended()

    def kill(self) -> None:
        """Kill the server, as a crash would."""
        self.signal(signal.SIGKILL)
        self.wait_ended()

    def restart(self) -> None:
        """Start the server again on the same port; stop it first if it is running."""
        if self._process is not None:
            self.terminate()
        self.start()

    def ensure_running(self) -> None:
        """Start the server if it has ended, and resume it if it is frozen."""
        if self.is_alive():
            self.signal(signal.SIGCONT)
        else:
            self.restart()

    def signal(self, number: signal.Signals) -> None:
        """Send the process a signal, such as SIGSTOP to freeze it and SIGCONT to resume it."""
        self._running().send_signal(number)

    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def manage(self, *arguments: str, input: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a management command in the server's environment; return its output and exit code."""
        return run_to_end("manage.py", *arguments, environment=self.environment, input=input)

    def log_text(self) -> str:
        """Return all output of the server, including that before restarts."""
        return self._log_path.read_text(encoding="utf-8", errors="replace") if self._log_path.exists() else ""

    def close(self) -> None:
        """Stop the server and its drivers, even if the server is frozen."""
        for driver in self._drivers:
            driver.close()
        if self.is_alive():
            self.signal(signal.SIGCONT)
            try:
                self.terminate()
            except subprocess.TimeoutExpired:
                self.kill()
        if self in self.running:
            self.running.remove(self)

    def _answers_or_ended(self) -> bool:
        return self._running().poll() is not None or self._answers()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.http_url}/health", timeout=5):
                return True
        except urllib.error.HTTPError as error:
            # 503 counts as an answer: a test may start a server while its Redis is down.
            error.close()
            return True
        except OSError:
            return False

    def _running(self) -> Program:
        assert self._process is not None, "this server is not running"
        return self._process

    def wait_ended(self) -> int:
        """Wait until a server that is stopping exits, and return its exit code."""
        code = self._running().wait(timeout=STOP_TIMEOUT_SECONDS)
        self._process = None
        return code


_MIGRATE = """
from django.core.management import call_command
call_command("migrate", verbosity=0)
"""


def migrate(*, var_dir: Path, database_url: str) -> None:
    """Migrate a database, in a separate process.

    Raises:
        ServiceCallError: if the command fails.
    """
    environment = {**clean_environment(), "MAHAVISHNU_VAR_DIR": str(var_dir), "DATABASE_URL": database_url}
    driver = Driver(environment=environment, log_path=var_dir / "migrate.log")
    try:
        driver.execute(_MIGRATE)
    finally:
        # On SQLite, this also moves the write-ahead log into the file.
        driver.close()


def copy_sqlite(template: Path, target: Path) -> str:
    """Copy a migrated file and return the URL of the copy."""
    shutil.copyfile(template, target)
    return f"sqlite:///{target}"
