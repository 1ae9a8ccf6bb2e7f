"""One WebSocket of daphne in the test's own process, to see which bytes reach the socket at which moment."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from autobahn.websocket.compress import PerMessageDeflateOfferAccept
from daphne.server import Server
from daphne.ws_protocol import WebSocketFactory
from twisted.internet.address import IPv4Address
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.error import ConnectionAborted
from twisted.internet.tcp import Server as SocketTransport
from twisted.python.failure import Failure

from realtime.connection.asgi_transport import AsgiTransport
from realtime.connection.writer import ConnectionWriter
from realtime.daphne_server.websocket import MahavishnuProtocol
from realtime.limits import Limits
from tests.connection.raw_client import HANDSHAKE

LIMITS = Limits(
    max_send_queue_bytes=200_000, max_burst_seconds=1.5, max_burst_bytes=900_000, close_timeout_seconds=120.0
)

TIMEOUT_SECONDS = 30

SMALL_BYTES = 16 * 1024
"""The kernel's buffers of both sockets: little fits in."""


@dataclass
class InProcessConnection:
    """Both ends of an open WebSocket.

    Attributes:
        client: The client's socket, after the handshake.
        protocol: The server's protocol object.
        writer: The writer of the application.
        slow_reasons: The reasons with which the writer reported a slow consumer.
        received: The messages that the application has read.
        may_receive: The application reads messages once this is set.
    """

    client: socket.socket
    protocol: Any
    writer: ConnectionWriter
    slow_reasons: list[str]
    received: asyncio.Queue[str]
    may_receive: asyncio.Event

    def read_available(self) -> bytes:
        """Return what has reached the client, without an iteration of the event loop."""
        parts = []
        try:
            while part := self.client.recv(65536):
                parts.append(part)
        except BlockingIOError:
            pass
        return b"".join(parts)

    async def read_exactly(self, count: int) -> bytes:
        loop = asyncio.get_running_loop()
        received = b""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while len(received) < count:
                received += await loop.sock_recv(self.client, count - len(received))
        return received


def do_nothing() -> None:
    """Ignore a disconnect: the application notices it itself."""


@asynccontextmanager
async def open_in_process(
    *, extensions: str | None = None, use_daphne_transport: bool = True
) -> AsyncIterator[InProcessConnection]:
    """Open a WebSocket whose application accepts it and reads nothing until `may_receive` is set.

    Args:
        extensions: The client's `Sec-WebSocket-Extensions`; the server accepts the first.
        use_daphne_transport: False sends everything through ASGI.
    """
    loop = asyncio.get_running_loop()
    writers: asyncio.Queue[ConnectionWriter] = asyncio.Queue()
    slow_reasons: list[str] = []
    received: asyncio.Queue[str] = asyncio.Queue()
    may_receive = asyncio.Event()

    async def application(scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        await receive()
        writer = ConnectionWriter(
            LIMITS, fallback=partial(AsgiTransport, send), on_slow=slow_reasons.append, on_disconnected=do_nothing
        )
        await send({"type": "websocket.accept", "writer": writer})
        writers.put_nowait(writer)
        await may_receive.wait()
        while (message := await receive())["type"] != "websocket.disconnect":
            received.put_nowait(message["text"])

    MahavishnuProtocol.limits = LIMITS
    MahavishnuProtocol.direct_frames = True
    MahavishnuProtocol.use_daphne_transport = use_daphne_transport
    server = Server(application, endpoints=["none"])
    server.connections = {}
    factory = WebSocketFactory(server)
    factory.protocol = MahavishnuProtocol
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        for end in (client, listener):
            for buffer in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                end.setsockopt(socket.SOL_SOCKET, buffer, SMALL_BYTES)
        client.connect(listener.getsockname())
        client.setblocking(False)
        accepted, address = listener.accept()
        protocol = factory.buildProtocol(IPv4Address("TCP", *address))
        if extensions is not None:
            protocol.perMessageCompressionAccept = lambda offers: PerMessageDeflateOfferAccept(offers[0])
        transport = SocketTransport(accepted, protocol, address, None, 0, AsyncioSelectorReactor(loop))
        protocol._raw_query_string = b""
        protocol.makeConnection(transport)
        offered = b"" if extensions is None else b"Sec-WebSocket-Extensions: " + extensions.encode() + b"\r\n"
        protocol.dataReceived(HANDSHAKE.removesuffix(b"\r\n") + offered + b"\r\n")
        writer = await writers.get()
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += await loop.sock_recv(client, 1000)
        assert (b"permessage-deflate" in answer) == (extensions is not None)
        yield InProcessConnection(client, protocol, writer, slow_reasons, received, may_receive)
        transport.connectionLost(Failure(ConnectionAborted()))
