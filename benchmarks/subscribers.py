"""Many WebSocket clients in another process, so that the measuring process stays idle.

`Subscribers` starts `benchmarks.subscriber_process` and sends it commands.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

_EXIT_SECONDS = 10


class Subscribers:
    """Many WebSocket clients in another process, controlled by this one."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.subscriber_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def connect(
        self,
        port: int,
        count: int,
        *,
        path: str = "/",
        send: Sequence[str] = (),
        replies: int = 0,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> dict[str, Any]:
        """Open `count` connections at once, send all of `send` on each, and read `replies` messages on each.

        In the messages to send, `{n}` becomes the connection's number and `{n+8}` that number plus 8. Return
        `opened_seconds`, until all handshakes were complete, and `answered_seconds`, until all replies had arrived.
        """
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._send(op="connect", port=port, count=count, path=path, send=list(send), replies=replies, headers=lines)
        return self._result()

    def collect(self, messages: int, *, within_seconds: float = 120) -> None:
        """Start to read `messages` messages on every connection."""
        self._send(op="collect", messages=messages, within_seconds=within_seconds)
        self._result()

    def collected(self) -> dict[str, Any]:
        """Wait for the messages and return their latencies.

        The keys are `last_ms` (of the last connection, for each message), `p50_ms`, `p99_ms` and, in total, `seconds`.

        Raises:
            RuntimeError: if some did not arrive in time, or their connections were closed.
        """
        found = self.collected_in_time()
        if found["lost"]:
            raise RuntimeError(f"{found['lost']} deliveries were lost: {found['why']}")
        return found

    def collected_in_time(self) -> dict[str, Any]:
        """Return the same keys for the messages that arrived. `lost` counts the others; `why` is the first reason."""
        return self._result()

    def exchange(self, message: str, *, seconds: float) -> dict[str, Any]:
        """Send `message` on every connection, repeatedly after each response.

        Return `answers_per_second` and `answers`.
        """
        self._send(op="exchange", message=message, seconds=seconds)
        return self._result()

    def disconnect(self) -> None:
        """Drop every connection, without a close frame."""
        self._send(op="disconnect")
        self._result()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=_EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _send(self, **command: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def _result(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("The process of the subscribers exited")
        result: dict[str, Any] = json.loads(line)
        if "error" in result:
            raise RuntimeError(result["error"])
        return result
