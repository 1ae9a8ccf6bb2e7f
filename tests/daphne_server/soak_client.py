"""Connections that open and close in every way there is, and what a server process holds afterwards."""

from __future__ import annotations

import json
import signal
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
from websockets.frames import Close, Opcode

from tests.connection.raw_client import HANDSHAKE, TIMEOUT_SECONDS, frame, request
from tests.harness.ports import HOST
from tests.harness.server import MahavishnuServer
from tests.harness.waiting import PAUSE_SECONDS, wait_until

BATCH_SIZE = 40
"""Connections that are open at the same time."""

COUNT_OBJECTS = """
import gc, json, os, signal, sys
from collections import Counter

gc.disable()

def count_objects(*_):
    # A collection empties Python's lists of free objects, which hold up to 2000 tuples of each size. It examines no
    # object, because all are frozen.
    gc.freeze()
    gc.collect()
    gc.unfreeze()
    counts = Counter(f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.get_objects())
    memory_blocks = sys.getallocatedblocks()
    with open(os.environ["OBJECT_COUNTS"] + ".new", "w") as file:
        file.write(json.dumps([memory_blocks, counts, gc.isenabled()]))  # `json.dump` leaves cycles behind.
    os.replace(file.name, os.environ["OBJECT_COUNTS"])

signal.signal(signal.SIGUSR2, count_objects)
"""
"""Runs when Python starts, as `sitecustomize`: on SIGUSR2 the process writes how many objects of each type it holds.

The garbage collector is off, so reference cycles stay in memory and show.
"""

_PER_CONNECTION_TYPES = (
    "realtime.daphne_server.websocket.MahavishnuProtocol",
    "realtime.consumers.OrchestrationConsumer",
    "realtime.broadcast.room.Room",
)

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, kw_only=True)
class ProcessUsage:
    """What a process holds.

    Attributes:
        memory_bytes: What would be freed if it exited (`psutil`'s `uss`).
        memory_blocks: Blocks that Python's allocator has handed out, for objects of every type and size.
        files: Open file descriptors.
        threads: Its threads.
        objects: Number of objects by type, for types that the garbage collector tracks.
    """

    memory_bytes: int
    memory_blocks: int
    files: int
    threads: int
    objects: Counter[str]

    def summary(self) -> str:
        return (
            f"{self.memory_bytes / 1024**2:.1f} MiB, {self.objects.total()} objects, {self.memory_blocks} blocks, "
            f"{self.files} files, {self.threads} threads"
        )

    def growth(self, before: ProcessUsage) -> Counter[str]:
        """Return how many more objects of each type there are than before."""
        return self.objects - before.objects


class SoakClient:
    """Connects many times to one server, which must be started with `environment`."""

    def __init__(self, directory: Path) -> None:
        (directory / "sitecustomize.py").write_text(COUNT_OBJECTS, encoding="utf-8")
        self._counts_path = directory / "counts.json"
        self.environment = {"PYTHONPATH": str(directory), "OBJECT_COUNTS": str(self._counts_path)}
        self._connected = 0

    def usage_without_connections(
        self, server: MahavishnuServer, *, is_settled: Callable[[ProcessUsage], bool] = lambda usage: True
    ) -> ProcessUsage:
        """Return the usage once no object of a connection is left and `is_settled`, or at the timeout.

        Cleanup after a disconnect, such as leaving groups, takes as long as Redis takes.

        Raises:
            AssertionError: if objects of a connection are left at the timeout.
        """
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while True:
            usage = self._usage(server)
            is_done = not any(usage.objects[name] for name in _PER_CONNECTION_TYPES) and is_settled(usage)
            if is_done or time.monotonic() > deadline:
                assert {name: usage.objects[name] for name in _PER_CONNECTION_TYPES if usage.objects[name]} == {}
                return usage
            time.sleep(PAUSE_SECONDS)

    def _usage(self, server: MahavishnuServer) -> ProcessUsage:
        memory_blocks, objects = self._count_objects(server)
        process = psutil.Process(server.pid)
        return ProcessUsage(
            memory_bytes=process.memory_full_info().uss,
            memory_blocks=memory_blocks,
            files=process.num_fds(),
            threads=process.num_threads(),
            objects=objects,
        )

    def _count_objects(self, server: MahavishnuServer) -> tuple[int, Counter[str]]:
        self._counts_path.unlink(missing_ok=True)
        server.signal(signal.SIGUSR2)
        wait_until(self._counts_path.exists, timeout_seconds=TIMEOUT_SECONDS, what="the counts")
        memory_blocks, objects, collects_garbage = json.loads(self._counts_path.read_text(encoding="utf-8"))
        assert not collects_garbage, "the server has enabled the garbage collector: leaked cycles would not show"
        return memory_blocks, Counter(objects)

    def connect(self, server: MahavishnuServer, count: int) -> None:
        """Open `count` connections that subscribe to shared and new rooms; close half of them with a close frame."""
        for first in range(0, count, BATCH_SIZE):
            batch = min(BATCH_SIZE, count - first)
            clients = [_Client(server.port, self._connected + number) for number in range(batch)]
            self._connected += len(clients)
            for step in (
                _Client.read_session_created,
                _Client.send_subscribes,
                _Client.read_responses,
                _Client.send_close,
                _Client.disconnect,
            ):
                for client in clients:
                    step(client)


class _Client:
    def __init__(self, port: int, number: int) -> None:
        self._number = number
        self._socket = socket.create_connection((HOST, port), timeout=TIMEOUT_SECONDS)
        self._socket.sendall(HANDSHAKE)

    def read_session_created(self) -> None:
        self._read_until(b'"session.created"')

    def send_subscribes(self) -> None:
        channels = ("global", "workflow:soaked", f"workflow:soaked_{self._number}")
        self._socket.sendall(b"".join(request("subscribe", channel=channel) for channel in channels))

    def read_responses(self) -> None:
        if not self._leaves_early:
            self._read_until(*[b'"type":"response"'] * 3)

    @property
    def _leaves_early(self) -> bool:
        """Whether it disconnects before its requests are answered."""
        return self._number % 4 == 0

    def send_close(self) -> None:
        if self._number % 2:
            self._socket.sendall(frame(Opcode.CLOSE, Close(1000, "").serialize()))
        elif self._number % 8 < 4:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)

    def disconnect(self) -> None:
        with self._socket:
            if self._number % 2:
                self._read_until(Close(1000, "").serialize())

    def _read_until(self, *expected: bytes) -> None:
        read = b""
        while any(read.count(part) < expected.count(part) for part in expected):
            more = self._socket.recv(65536)
            assert more, f"the server ended the connection after {read!r}"
            read += more
