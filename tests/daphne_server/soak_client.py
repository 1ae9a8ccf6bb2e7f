"""Connections that come and go in every way there is, and what a server process holds afterwards."""

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

AT_ONCE = 40
"""Connections that are open at the same time."""

COUNT_OBJECTS = """
import gc, json, os, signal, sys
from collections import Counter

gc.disable()

def count_objects(*_):
    counts = Counter(f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.get_objects())
    memory_blocks = sys.getallocatedblocks()
    with open(os.environ["OBJECT_COUNTS"] + ".new", "w") as file:
        file.write(json.dumps([memory_blocks, counts]))  # `json.dump` leaves cycles behind.
    os.replace(file.name, os.environ["OBJECT_COUNTS"])

signal.signal(signal.SIGUSR2, count_objects)
"""
"""Python runs this when it starts, as `sitecustomize`: the process then answers SIGUSR2 with what it holds.

It has no garbage collector: what refers to itself stays, and shows.
"""

_MADE_FOR_A_CONNECTION = (
    "realtime.daphne_server.websocket.MahavishnuProtocol",
    "realtime.consumers.OrchestrationConsumer",
    "realtime.broadcast.room.Room",
)

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, kw_only=True)
class Holding:
    """What a process holds.

    Attributes:
        memory_bytes: What it would free if it ended (`psutil`'s `uss`).
        memory_blocks: What Python's allocator has given out, however small, to whatever type of object.
        objects: How many there are of each type whose objects may refer to others.
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

    def growth(self, before: Holding) -> Counter[str]:
        """How many more of each type there are than there were."""
        return self.objects - before.objects


class Soak:
    """Connects to one server, which was started with `environment`."""

    def __init__(self, directory: Path) -> None:
        (directory / "sitecustomize.py").write_text(COUNT_OBJECTS, encoding="utf-8")
        self._counts_path = directory / "counts.json"
        self.environment = {"PYTHONPATH": str(directory), "OBJECT_COUNTS": str(self._counts_path)}
        self._connected = 0

    def holding(
        self, server: MahavishnuServer, *, settled: Callable[[Holding], bool] = lambda holding: True
    ) -> Holding:
        """What the server process holds once it has forgotten every connection and is `settled`, or does not settle.

        What is still to be done for those that have gone, such as to leave their groups, takes as long as Redis takes.
        """
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while True:
            holding = self._holding(server)
            is_over = not any(holding.objects[name] for name in _MADE_FOR_A_CONNECTION) and settled(holding)
            if is_over or time.monotonic() > deadline:
                assert {name: holding.objects[name] for name in _MADE_FOR_A_CONNECTION if holding.objects[name]} == {}
                return holding
            time.sleep(PAUSE_SECONDS)

    def _holding(self, server: MahavishnuServer) -> Holding:
        memory_blocks, objects = self._count_objects(server)
        process = psutil.Process(server.pid)
        return Holding(
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
        memory_blocks, objects = json.loads(self._counts_path.read_text(encoding="utf-8"))
        return memory_blocks, Counter(objects)

    def connect(self, server: MahavishnuServer, count: int) -> None:
        """Connect so often, subscribe to rooms old and new, and leave: only half of the time with a close frame."""
        for first in range(0, count, AT_ONCE):
            clients = [_Client(server.port, self._connected + number) for number in range(min(AT_ONCE, count - first))]
            self._connected += len(clients)
            for step in (_Client.welcomed, _Client.subscribe, _Client.subscribed, _Client.leave, _Client.left):
                for client in clients:
                    step(client)


class _Client:
    def __init__(self, port: int, number: int) -> None:
        self._number = number
        self._socket = socket.create_connection((HOST, port), timeout=TIMEOUT_SECONDS)
        self._socket.sendall(HANDSHAKE)

    def welcomed(self) -> None:
        self._read_until(b'"session.created"')

    def subscribe(self) -> None:
        channels = ("global", "workflow:soaked", f"workflow:soaked_{self._number}")
        self._socket.sendall(b"".join(request("subscribe", channel=channel) for channel in channels))

    def subscribed(self) -> None:
        if not self._gives_up:
            self._read_until(*[b'"type":"response"'] * 3)

    @property
    def _gives_up(self) -> bool:
        """Whether it leaves while it is being answered."""
        return self._number % 4 == 0

    def leave(self) -> None:
        if self._number % 2:
            self._socket.sendall(frame(Opcode.CLOSE, Close(1000, "").serialize()))
        elif self._number % 8 < 4:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)

    def left(self) -> None:
        with self._socket:
            if self._number % 2:
                self._read_until(Close(1000, "").serialize())

    def _read_until(self, *expected: bytes) -> None:
        read = b""
        while any(read.count(part) < expected.count(part) for part in expected):
            more = self._socket.recv(65536)
            assert more, f"the server ended the connection after {read!r}"
            read += more
