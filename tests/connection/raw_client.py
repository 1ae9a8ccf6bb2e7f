"""A WebSocket client that sends exactly the given bytes, and returns each frame with the bytes it came as."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from websockets.frames import Close, Frame, Opcode

from tests.harness.ports import HOST

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)

TIMEOUT_SECONDS = 40

SMALL_BUFFER_BYTES = 32 * 1024
"""A receive buffer that is soon full."""


def upgrade(connection: socket.socket, headers: dict[str, str], *, path: str = "/") -> int:
    """Request a WebSocket on an open connection and return the status code of the answer."""
    lines = [
        f"GET {path} HTTP/1.1",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
    return int(connection.makefile("rb").readline().split()[1])


@dataclass(frozen=True, kw_only=True)
class Received:
    """One received frame.

    Attributes:
        opcode: Its opcode.
        payload: Its payload.
        data: All its bytes, header included.
    """

    opcode: int
    payload: bytes
    data: bytes

    def json(self) -> dict[str, Any]:
        assert self.opcode == Opcode.TEXT, self
        message: dict[str, Any] = json.loads(self.payload)
        return message

    def close(self) -> tuple[int, str]:
        assert self.opcode == Opcode.CLOSE, self
        close = Close.parse(self.payload)
        return close.code, close.reason


def frame(opcode: Opcode, payload: bytes = b"", *, fin: bool = True) -> bytes:
    """Return a frame as a client sends it."""
    return Frame(opcode, payload, fin=fin).serialize(mask=True)


def text(payload: str | bytes, *, fin: bool = True) -> bytes:
    """Return a text frame as a client sends it."""
    return frame(Opcode.TEXT, payload.encode() if isinstance(payload, str) else payload, fin=fin)


def request(event: str, **data: Any) -> bytes:
    """Return the frame of a request; its id is `event`."""
    return text(json.dumps({"type": "request", "event": event, "data": data, "id": event}))


class RawClient:
    """One connection, after its handshake. Unread data stays in TCP's buffers."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *data: bytes) -> None:
        self.writer.write(b"".join(data))
        await self.writer.drain()

    async def receive(self) -> Received:
        """Return the next frame.

        Raises:
            asyncio.IncompleteReadError: if the connection ended instead.
        """
        async with asyncio.timeout(TIMEOUT_SECONDS):
            head = await self.reader.readexactly(2)
            length = head[1]
            if length == 126:
                head += await self.reader.readexactly(2)
                length = int.from_bytes(head[2:])
            elif length == 127:
                head += await self.reader.readexactly(8)
                length = int.from_bytes(head[2:])
            payload = await self.reader.readexactly(length)
            return Received(opcode=head[0] & 0x0F, payload=payload, data=head + payload)

    async def message(self) -> dict[str, Any]:
        return (await self.receive()).json()

    async def ended(self) -> bool:
        """Return whether the server closes the connection without sending more, and without a reset."""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            return await self.reader.read(1) == b""


async def all_messages(client: RawClient) -> tuple[list[dict[str, Any]], tuple[int, str]]:
    """Return every message up to the close frame, and its code and reason."""
    messages = []
    while (received := await client.receive()).opcode == Opcode.TEXT:
        messages.append(received.json())
    return messages, received.close()


@asynccontextmanager
async def open_raw(port: int, *, receive_buffer_bytes: int | None = None) -> AsyncIterator[RawClient]:
    """Connect, read `session.created`, and drop the connection at the end."""
    with open_socket(port, receive_buffer_bytes) as connection:
        connection.setblocking(False)
        # A stream reads ahead, up to twice its limit.
        reader, writer = await asyncio.open_connection(sock=connection, limit=2**10 if receive_buffer_bytes else 2**16)
        try:
            client = RawClient(reader, writer)
            await client.send(HANDSHAKE)
            answer = await reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 101 "), answer
            assert (await client.message())["event"] == "session.created"
            yield client
        finally:
            writer.transport.abort()


@contextmanager
def open_socket(port: int, receive_buffer_bytes: int | None) -> Iterator[socket.socket]:
    """Connect a TCP socket, with a receive buffer of that size if given."""
    with socket.socket() as connection:
        if receive_buffer_bytes is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        connection.connect((HOST, port))
        yield connection
