"""Calls services in another process, which runs `tests.harness.driver`."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ANSWER_TIMEOUT_SECONDS = 200
EXIT_TIMEOUT_SECONDS = 10

PROJECT_DIR = Path(__file__).resolve().parent.parent.parent


class ServiceCallError(Exception):
    """Raised when the call raised an exception in the other process."""

    def __init__(self, class_name: str, message: str) -> None:
        self.class_name = class_name
        self.message = message
        super().__init__(f"{class_name}: {message}")


class DriverExitedError(Exception):
    """Raised when the other process exited before it answered."""

    def __init__(self, log: str) -> None:
        super().__init__(f"the driver process has exited; its log ends with:\n{log[-4000:]}")


class Driver:
    """A process with a server's environment. Several threads may use it; it runs one call at a time.

    `driver.services.start_workflow(workflow_id="x")` calls `orchestration.services.start_workflow` in that
    process and returns the model's fields as a dict.
    """

    def __init__(self, *, environment: Mapping[str, str], log_path: Path) -> None:
        self._lock = threading.Lock()
        self._log_path = log_path
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        with log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.harness.driver"],
                cwd=PROJECT_DIR,
                env=dict(environment),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                encoding="utf-8",
                start_new_session=True,
            )
        self._reader = threading.Thread(target=self._read, name="driver answers", daemon=True)
        self._reader.start()

    @property
    def services(self) -> Services:
        return Services(self)

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def call(self, service: str, arguments: Mapping[str, Any]) -> Any:
        """Call a service in the other process.

        Raises:
            ServiceCallError: if the service raised.
            DriverExitedError: if the process has exited.
            TimeoutError: if there is no answer within `ANSWER_TIMEOUT_SECONDS`.
        """
        return self._request({"service": service, "arguments": dict(arguments)})

    def execute(self, code: str, **variables: Any) -> Any:
        """Run Python in the other process with `variables`, and return its variable `result`; raises as `call` does."""
        return self._request({"code": code, "variables": variables})

    def kill(self) -> None:
        """Kill the process, as a crash would."""
        self._process.kill()
        self.close()

    def close(self) -> None:
        """Close the input of the process, which makes it exit; kill it if it does not."""
        assert self._process.stdin is not None
        # The process may have exited with the last order unread.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=EXIT_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def log_text(self) -> str:
        return self._log_path.read_text(encoding="utf-8", errors="replace")

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def _request(self, order: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        with self._lock:
            try:
                self._process.stdin.write(json.dumps(order) + "\n")
                self._process.stdin.flush()
            except (BrokenPipeError, ValueError):
                raise DriverExitedError(self.log_text()) from None
            try:
                line = self._answers.get(timeout=ANSWER_TIMEOUT_SECONDS)
            except queue.Empty:
                raise TimeoutError(f"no answer from the driver within {ANSWER_TIMEOUT_SECONDS} s: {order}") from None
        if not line:
            raise DriverExitedError(self.log_text())
        answer = json.loads(line)
        if "error" in answer:
            raise ServiceCallError(answer["error"], answer["message"])
        return answer["result"]


class Services:
    """`orchestration.services`, called in the other process."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)

        def call(**arguments: Any) -> Any:
            return self._driver.call(name, arguments)

        return call
