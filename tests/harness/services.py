"""Calls services in another process, which runs `tests.harness.driver`."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.harness import driver
from tests.harness.programs import ForkedProcess, fork_context

ANSWER_TIMEOUT_SECONDS = 200
EXIT_TIMEOUT_SECONDS = 10


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
        self._orders, orders = fork_context.Pipe()
        self._process = ForkedProcess(driver.run, orders, dict(environment), str(log_path), log_path=log_path)
        orders.close()

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
        """Close the connection to the process, which makes it exit; kill it if it does not."""
        self._orders.close()
        try:
            self._process.wait(timeout=EXIT_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(timeout=EXIT_TIMEOUT_SECONDS)

    def log_text(self) -> str:
        return self._log_path.read_text(encoding="utf-8", errors="replace")

    def _request(self, order: dict[str, Any]) -> Any:
        with self._lock:
            try:
                self._orders.send_bytes(json.dumps(order).encode())
                answered = self._orders.poll(ANSWER_TIMEOUT_SECONDS)
                answer = json.loads(self._orders.recv_bytes()) if answered else None
            except (EOFError, OSError):
                raise DriverExitedError(self.log_text()) from None
        if answer is None:
            raise TimeoutError(f"no answer from the driver within {ANSWER_TIMEOUT_SECONDS} s: {order}")
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
