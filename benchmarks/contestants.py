"""The servers under measurement: Mahavishnu and its peers, each a process that broadcasts a load on command."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from benchmarks.peers.load import Load
from orchestration.log_throttle import INTERVAL_SECONDS
from tests.harness.ports import free_port
from tests.harness.server import MahavishnuServer, clean_environment, migrate
from tests.harness.valkey import Valkey

CHANNEL = "workflow:benchmark"
_START_TIMEOUT_SECONDS = 20
_SUBSCRIBE = f'{{"type":"request","event":"subscribe","data":{{"channel":"{CHANNEL}"}},"id":"1"}}'
_EMIT = """
import time
from datetime import datetime, timezone
from django.db import transaction
from realtime.events.receivers import announce_as_given
for _ in range(messages if apart else 1):
    with transaction.atomic():
        for _ in range(1 if apart else messages):
            data = {"workflow_id": "benchmark", "sent_ns": time.monotonic_ns(), "padding": "x" * padding}
            announce_as_given("workflow.benchmark", data=data, rooms=("workflow:benchmark",),
                              timestamp=datetime.now(timezone.utc))
"""
# Size of Mahavishnu's message without the padding, so that all servers send frames of one size.
_OWN_ENVELOPE_BYTES = 300


class Contestant(Protocol):
    """A running server that can broadcast.

    Attributes:
        subscribe: The messages with which a client subscribes.
        replies: Number of messages it receives before the first broadcast.
    """

    name: str
    port: int
    subscribe: Sequence[str]
    replies: int

    @property
    def pid(self) -> int:
        """The id of the process that serves the sockets."""

    def broadcast(self, load: Load) -> None:
        """Start to send a load to every subscriber; return without waiting for delivery."""


class Ours:
    """Mahavishnu. The events come from another process, through the log and the channel layer."""

    name = "mahavishnu"
    subscribe: Sequence[str] = (_SUBSCRIBE,)
    replies = 2

    def __init__(self, server: MahavishnuServer) -> None:
        self.server = server
        self.port = server.port
        self.driver = server.driver()

    @property
    def pid(self) -> int:
        return self.server.pid

    def broadcast(self, load: Load) -> None:
        padding = max(load.size_bytes - _OWN_ENVELOPE_BYTES, 0)
        self.driver.execute(_EMIT, messages=load.messages, padding=padding, apart=False)


class Peer:
    """A server that broadcasts the loads it receives on its path `/control`."""

    subscribe: Sequence[str] = ()
    replies = 0

    def __init__(self, name: str, pid: int, port: int) -> None:
        self.name = name
        self.port = port
        self._pid = pid
        # Send no pings: a busy peer that misses their timeout is slow, not disconnected.
        self._control: ClientConnection = connect(f"ws://127.0.0.1:{port}/control", ping_interval=None)

    @property
    def pid(self) -> int:
        return self._pid

    def broadcast(self, load: Load) -> None:
        # A peer that failed gets no further loads; their deliveries count as lost.
        with suppress(ConnectionClosed):
            self._control.send(load.text())

    def close(self) -> None:
        self._control.close()


def ours(database_url: str | None = None, **limits: str) -> AbstractContextManager[Ours]:
    """Start Mahavishnu with a new Valkey server and a new database."""
    return _started(database_url, processes=1, limits=limits)


def ours_with(processes: int) -> AbstractContextManager[Ours]:
    """Start Mahavishnu with several processes on one port; `pid` is that of their parent."""
    return _started(None, processes=processes, limits={})


@contextmanager
def _started(database_url: str | None, *, processes: int, limits: dict[str, str]) -> Iterator[Ours]:
    environment = {
        # A process may open 20,000 files on many machines, and a server refuses to start with too few.
        "MAHAVISHNU_MAX_CONNECTIONS": "19000",
        # The default. The servers of the tests log every rejection.
        "MAHAVISHNU_LOG_REPEAT_SECONDS": f"{INTERVAL_SECONDS:g}",
        **limits,
    }
    with tempfile.TemporaryDirectory(prefix="mahavishnu-bench-") as folder, ExitStack() as stack:
        var_dir = Path(folder)
        valkey = Valkey()
        valkey.start()
        stack.callback(valkey.close)
        url = database_url or f"sqlite:///{var_dir / 'bench.sqlite3'}"
        migrate(var_dir=var_dir, database_url=url)
        server = MahavishnuServer(
            var_dir=var_dir,
            database_url=url,
            redis_url=valkey.url,
            environment=environment,
            processes=processes,
            valkey=valkey,
        )
        server.start()
        stack.callback(server.close)
        yield Ours(server)


@contextmanager
def peer(name: str) -> Iterator[Peer]:
    """Start one of `PEERS`."""
    port = free_port()
    environment = clean_environment()
    with ExitStack() as stack:
        if name == "channels, redis":
            valkey = Valkey()
            valkey.start()
            stack.callback(valkey.close)
            environment["BENCHMARK_REDIS_URL"] = valkey.url
        command = [sys.executable, "-m", *(part.replace("PORT", str(port)) for part in PEERS[name])]
        process = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        stack.callback(process.wait)
        stack.callback(process.terminate)
        wait_for_port(port, process)
        contestant = Peer(name, process.pid, port)
        stack.callback(contestant.close)
        yield contestant


# By default daphne drops a client after 5 s without acceptance: some of a thousand that connect at once wait longer.
_DAPHNE = (
    *("daphne", "-v", "0", "--websocket_connect_timeout", "60"),
    *("-e", "tcp:port=PORT:interface=127.0.0.1:backlog=4096"),
)
PEERS = {
    "bare send() loop": ("benchmarks.peers.bare_loop", "PORT"),
    "websockets.broadcast()": ("benchmarks.peers.websockets_broadcast", "PORT"),
    "channels, memory": (*_DAPHNE, "benchmarks.peers.stock_channels:application"),
    "channels, redis": (*_DAPHNE, "benchmarks.peers.stock_channels:application"),
}


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until the process listens on the port.

    Raises:
        TimeoutError: if it exited, or does not listen in time.
    """
    deadline = time.monotonic() + _START_TIMEOUT_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"{process.args!r} did not listen on port {port} within {_START_TIMEOUT_SECONDS} s")
