"""A real Valkey that a test can kill, freeze and restart."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from mahavishnu_site.serve.valkey import arguments
from tests.harness.waiting import wait_until

START_TIMEOUT_SECONDS = 30
STOP_TIMEOUT_SECONDS = 30


class Valkey:
    """One Valkey server on a Unix socket in its own folder; its `url` survives a restart."""

    def __init__(self, directory: Path | None = None) -> None:
        self._owns_directory = directory is None
        # The path of pytest's temporary folder is too long for a Unix socket.
        self.directory = directory or Path(tempfile.mkdtemp(prefix="mv-valkey-", dir="/tmp"))
        self.socket_path = self.directory / "valkey.sock"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket_path}"

    @property
    def pid(self) -> int:
        return self._running().pid

    def start(self) -> None:
        """Start the server and wait until it answers."""
        assert self._process is None, "this Valkey is already running"
        self._process = subprocess.Popen(
            arguments(socket_path=self.socket_path, directory=self.directory),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_until(self.answers, timeout_seconds=START_TIMEOUT_SECONDS, what="Valkey's answer")

    def stop(self) -> None:
        """Stop the server, as an operator would."""
        self._signal(signal.SIGTERM)
        self._wait()

    def kill(self) -> None:
        """Kill the server, as a crash would."""
        self._signal(signal.SIGKILL)
        self._wait()

    def pause(self) -> None:
        """Freeze the server: its connections stay open, and it does not answer."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def ensure_running(self) -> None:
        """Start the server if it is stopped, and resume it if it is frozen."""
        if self._process is None:
            self.start()
        else:
            self.resume()

    def close(self) -> None:
        """Kill the server, even if it is frozen, and remove its folder."""
        if self._process is not None:
            self.kill()
        if self._owns_directory:
            shutil.rmtree(self.directory)

    def answers(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(1)
            try:
                connection.connect(str(self.socket_path))
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
            except OSError:
                return False

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "this Valkey is not running"
        return self._process

    def _signal(self, number: signal.Signals) -> None:
        self._running().send_signal(number)

    def _wait(self) -> None:
        self._running().wait(timeout=STOP_TIMEOUT_SECONDS)
        self._process = None


@contextmanager
def frozen(valkey: Valkey) -> Iterator[None]:
    """Freeze the server until the end of the block: it accepts connections and does not respond."""
    valkey.pause()
    try:
        # The signal takes effect a moment after it is sent.
        wait_until(lambda: psutil.Process(valkey.pid).status() == psutil.STATUS_STOPPED, timeout_seconds=60)
        yield
    finally:
        valkey.resume()
