"""The process of `benchmarks.subscribers`: many WebSocket clients at low cost, with plain sockets and epoll.

It reads commands from standard input and prints results, one JSON object a line. Times are those of
`time.monotonic_ns()`, one clock for all processes of a machine. A measured message contains the time it was sent in the
text `"sent_ns":<number>`; without it, its `timestamp` is used.
"""

from __future__ import annotations

import base64
import json
import math
import os
import re
import select
import socket
import sys
import time
from array import array
from collections.abc import Callable
from datetime import datetime
from typing import Any

from benchmarks.report import percentile

_SENT_NS = re.compile(rb'"sent_ns":\s*(\d+)')
_TIMESTAMP = re.compile(rb'"timestamp":"([^"]+)"')
_NUMBER = re.compile(r"\{n(?:\+(\d+))?\}")
_RECEIVE_BYTES = 256 * 1024


def masked_text(text: str) -> bytes:
    """Return a text frame of a client, masked with zeros."""
    payload = text.encode()
    if len(payload) < 126:
        return bytes((0x81, 0x80 | len(payload))) + b"\0\0\0\0" + payload
    return b"\x81\xfe" + len(payload).to_bytes(2) + b"\0\0\0\0" + payload


def masked_pong(payload: bytes) -> bytes:
    """Return the pong frame of a client. Daphne closes connections that do not answer pings."""
    return bytes((0x8A, 0x80 | len(payload))) + b"\0\0\0\0" + payload


def _numbered(number: int) -> Callable[[re.Match[str]], str]:
    return lambda found: str(number + int(found.group(1) or 0))


def _sent_ns(message: bytes, now_ns: int) -> int:
    if found := _SENT_NS.search(message):
        return int(found.group(1))
    if found := _TIMESTAMP.search(message):
        ago_seconds = time.time() - datetime.fromisoformat(found.group(1).decode()).timestamp()
        return now_ns - int(ago_seconds * 1e9)
    raise ValueError(f"neither sent_ns nor timestamp in {message!r}")


class _Connection:
    __slots__ = ("buffer", "count", "is_open", "socket")

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.buffer = b""
        self.count = 0
        self.is_open = False

    def frames(self, data: bytes) -> list[bytes]:
        """Return the text messages that are complete; answer pings.

        Raises:
            ConnectionError: if the server closed the connection.
        """
        if self.buffer:
            data = self.buffer + data
        messages, start, end = [], 0, len(data)
        while end - start >= 2:
            length, head = data[start + 1] & 0x7F, start + 2
            if length == 126:
                length, head = int.from_bytes(data[start + 2 : start + 4]), start + 4
            elif length == 127:
                length, head = int.from_bytes(data[start + 2 : start + 10]), start + 10
            if head + length > end:
                break
            opcode = data[start] & 0x0F
            if opcode == 8:
                raise ConnectionError(f"closed by the server: {data[head : head + length]!r}")
            if opcode == 9:
                self.socket.send(masked_pong(data[head : head + length]))
            elif opcode == 1:
                messages.append(data[head : head + length])
            start = head + length
        self.buffer = data[start:]
        return messages


class _Clients:
    def __init__(self) -> None:
        self.poll = select.epoll()
        self.connections: dict[int, _Connection] = {}

    def connect(
        self, port: int, count: int, path: str, send: list[str], replies: int, headers: str = ""
    ) -> dict[str, Any]:
        key = base64.b64encode(os.urandom(16)).decode()
        handshake = (
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
        ).encode()
        began = time.monotonic()
        numbers: dict[int, int] = {}
        for number in range(count):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
            connection = _Connection(sock)
            self.connections[sock.fileno()] = connection
            numbers[sock.fileno()] = number
            self.poll.register(sock, select.EPOLLOUT)
        opened = answered = 0
        opened_seconds = 0.0
        while answered < count:
            for fileno, _ in self._ready(60):
                connection = self.connections[fileno]
                if not connection.is_open and not connection.buffer and connection.count == 0:
                    error = connection.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    if error:
                        raise ConnectionError(os.strerror(error))
                    connection.socket.send(handshake)
                    connection.count = -1
                    self.poll.modify(fileno, select.EPOLLIN)
                    continue
                data = connection.socket.recv(_RECEIVE_BYTES)
                if not data:
                    raise ConnectionError("closed in the handshake")
                if not connection.is_open:
                    connection.buffer += data
                    head, separator, data = connection.buffer.partition(b"\r\n\r\n")
                    if not separator:
                        continue
                    if b" 101 " not in head.split(b"\r\n")[0]:
                        raise ConnectionError(head.decode())
                    connection.buffer, connection.count, connection.is_open = b"", 0, True
                    opened += 1
                    opened_seconds = time.monotonic() - began
                    if send:
                        texts = (_NUMBER.sub(_numbered(numbers[fileno]), text) for text in send)
                        connection.socket.send(b"".join(map(masked_text, texts)))
                    if replies == 0:
                        answered += 1
                before = connection.count
                connection.count += len(connection.frames(data))
                answered += before < replies <= connection.count
        return {"opened_seconds": opened_seconds, "answered_seconds": time.monotonic() - began}

    def collect(self, messages: int, within_seconds: float) -> dict[str, Any]:
        sent = [0] * messages
        last = [0] * messages
        times = array("q")
        for connection in self.connections.values():
            connection.count = 0
        missing, why = len(self.connections) * messages, ""
        waiting = len(self.connections)
        deadline = time.monotonic() + within_seconds
        while waiting and (left := deadline - time.monotonic()) > 0:
            for fileno, _ in self.poll.poll(left):
                connection = self.connections[fileno]
                try:
                    data = connection.socket.recv(_RECEIVE_BYTES)
                    now = time.monotonic_ns()
                    if not data:
                        raise ConnectionError("closed by the server")
                    received = connection.frames(data)
                except ConnectionError as error:
                    why = why or str(error)
                    waiting -= connection.count < messages
                    self.poll.unregister(fileno)
                    self.connections.pop(fileno).socket.close()
                    continue
                for message in received:
                    index = connection.count
                    if not sent[index]:
                        sent[index] = _sent_ns(message, now)
                    last[index] = now
                    times.append(now - sent[index])
                    connection.count += 1
                    missing -= 1
                    waiting -= connection.count == messages
        milliseconds = [value / 1e6 for value in times] or [math.nan]
        return {
            "last_ms": [(at - since) / 1e6 for at, since in zip(last, sent, strict=True) if since],
            "p50_ms": percentile(milliseconds, 50),
            "p99_ms": percentile(milliseconds, 99),
            "seconds": (max(last) - min(filter(None, sent), default=0)) / 1e9,
            "first_sent_ns": min(sent),
            "last_received_ns": max(last),
            "lost": missing,
            "why": why or f"nothing further received within {within_seconds:g} s",
        }

    def exchange(self, message: str, seconds: float) -> dict[str, Any]:
        frame, answers = masked_text(message), 0
        began = time.monotonic()
        for connection in self.connections.values():
            connection.socket.send(frame)
        while (now := time.monotonic()) < began + seconds:
            for fileno, _ in self._ready(60):
                connection = self.connections[fileno]
                received = len(connection.frames(connection.socket.recv(_RECEIVE_BYTES)))
                answers += received
                if received:
                    connection.socket.send(frame)
        return {"answers_per_second": answers / (now - began), "answers": answers}

    def disconnect(self) -> dict[str, Any]:
        for connection in self.connections.values():
            connection.socket.close()
        self.connections.clear()
        return {}

    def _ready(self, timeout_seconds: float) -> list[tuple[int, int]]:
        ready = self.poll.poll(timeout_seconds)
        if not ready:
            raise TimeoutError(f"nothing received for {timeout_seconds} s")
        return ready


def main() -> None:
    clients = _Clients()
    for line in sys.stdin:
        command = json.loads(line)
        try:
            if command["op"] == "collect":
                print(json.dumps({"armed": True}), flush=True)
            result = getattr(clients, command.pop("op"))(**command)
        except Exception as error:
            result = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
