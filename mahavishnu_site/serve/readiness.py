"""Wait until the server answers, then print the text from standard input: `python -m mahavishnu_site.serve.readiness`.

A separate process, so that `manage.py serve` starts and restarts its programs without threads, and waits for no answer.
It imports nothing but the standard library, and ends with its parent.
"""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
import time
from dataclasses import astuple, dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection

_FIRST_PAUSE_SECONDS = 0.1
_MAX_PAUSE_SECONDS = 1.0
_TIMEOUT_SECONDS = 5.0

_HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}
_NEEDS_CREDENTIALS = (401, 403)


@dataclass(frozen=True)
class Target:
    """What must answer.

    Attributes:
        host: The address to connect to.
        host_header: A host that the server accepts.
        port: The port of the WebSocket.
        pages_port: The port of the pages.
        page_path: The path of the page.
        websocket_path: The path of the WebSocket.
        uses_tls: "1" if the server has a certificate, else "0".
    """

    host: str
    host_header: str
    port: str
    pages_port: str
    page_path: str
    websocket_path: str
    uses_tls: str

    def answers(self) -> bool:
        """Return whether the page and the WebSocket answer."""
        page = self._status_of(self.pages_port, self.page_path, {})
        if page is None or not (page < 400 or page in _NEEDS_CREDENTIALS):
            return False
        return self._status_of(self.port, self.websocket_path, _HANDSHAKE) in (101, *_NEEDS_CREDENTIALS)

    def _status_of(self, port: str, path: str, headers: dict[str, str]) -> int | None:
        connection = HTTPConnection(self.host, int(port), timeout=_TIMEOUT_SECONDS)
        if self.uses_tls == "1":
            # Nothing secret is sent, and the certificate is for another name than this address.
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            connection = HTTPSConnection(self.host, int(port), timeout=_TIMEOUT_SECONDS, context=context)
        try:
            connection.request("GET", path, headers={"Host": f"{self.host_header}:{port}", **headers})
            return connection.getresponse().status
        except (OSError, HTTPException):
            return None
        finally:
            connection.close()


class ReadyText:
    """A running process that prints a text once the server answers; a pipe for `PrefixedOutput`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        self._process = process
        self._stdout = process.stdout

    def fileno(self) -> int:
        """Return the descriptor from which to read the text."""
        return self._stdout.fileno()

    def close(self) -> None:
        """End the process, if it still waits for the server."""
        self._process.terminate()
        self._process.wait()
        self._stdout.close()


def command_of(target: Target) -> list[str]:
    """Return the command that waits for this server."""
    return [sys.executable, "-m", __name__, *astuple(target)]


def main() -> None:
    """Wait for the server in `sys.argv`, and copy standard input to standard output."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = os.getppid()
    text = sys.stdin.buffer.read()
    target = Target(*sys.argv[1:])
    pause_seconds = _FIRST_PAUSE_SECONDS
    while not target.answers():
        time.sleep(pause_seconds)
        pause_seconds = min(pause_seconds * 1.2, _MAX_PAUSE_SECONDS)
        if os.getppid() != parent:
            return
    sys.stdout.buffer.write(text)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
