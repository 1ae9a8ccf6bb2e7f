"""One connection of daphne's in the test's own process, to see what has reached the socket at which moment."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from autobahn.websocket.compress import PerMessageDeflateOfferAccept
from daphne.server import Server
from daphne.ws_protocol import WebSocketFactory
from twisted.internet.address import IPv4Address
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.error import ConnectionAborted
from twisted.internet.tcp import Server as SocketTransport
from twisted.python.failure import Failure
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Close, Frame, Opcode

from realtime.connection.writer import ConnectionWriter
from realtime.daphne_server.transport import DaphneTransport
from realtime.daphne_server.websocket import MahavishnuProtocol
from realtime.limits import Limits
from realtime.protocol.frames import Frames
from tests.connection.raw_client import HANDSHAKE, frame, text

LIMITS = Limits(
    max_send_queue_bytes=200_000, max_burst_seconds=1.5, max_burst_bytes=900_000, close_timeout_seconds=120.0
)

TIMEOUT_SECONDS = 30

SMALL_BYTES = 16 * 1024
"""What the kernel may hold for either end, so that little fits."""


@dataclass
class Connection:
    """Both ends of a WebSocket that is open.

    Attributes:
        slow: What the writer was told of a slow reader.
        received: What the application has taken, once it is let.
        receives: Set, the application takes what comes.
    """

    client: socket.socket
    protocol: Any
    writer: ConnectionWriter
    slow: list[str]
    received: asyncio.Queue[str]
    receives: asyncio.Event

    def arrived(self) -> bytes:
        """What has reached the client, without a turn of the loop."""
        parts = []
        try:
            while part := self.client.recv(65536):
                parts.append(part)
        except BlockingIOError:
            pass
        return b"".join(parts)

    async def arrives(self, count: int) -> bytes:
        loop = asyncio.get_running_loop()
        received = b""
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while len(received) < count:
                received += await loop.sock_recv(self.client, count - len(received))
        return received


@asynccontextmanager
async def opened(*, extensions: str | None = None, attaches: bool = True) -> AsyncIterator[Connection]:
    loop = asyncio.get_running_loop()
    outboxes: asyncio.Queue[ConnectionWriter] = asyncio.Queue()
    slow: list[str] = []
    received: asyncio.Queue[str] = asyncio.Queue()
    receives = asyncio.Event()

    async def application(scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        await receive()
        writer = ConnectionWriter(send, LIMITS, on_slow=slow.append)
        await send({"type": "websocket.accept", "writer": writer})
        outboxes.put_nowait(writer)
        await receives.wait()
        while (message := await receive())["type"] != "websocket.disconnect":
            received.put_nowait(message["text"])

    MahavishnuProtocol.limits, MahavishnuProtocol.direct, MahavishnuProtocol.attaches = LIMITS, True, attaches
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
        writer = await outboxes.get()
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += await loop.sock_recv(client, 1000)
        assert (b"permessage-deflate" in answer) == (extensions is not None)
        yield Connection(client, protocol, writer, slow, received, receives)
        transport.connectionLost(Failure(ConnectionAborted()))


@pytest.fixture
async def connection() -> AsyncIterator[Connection]:
    async with opened() as connection:
        yield connection


def numbered(count: int, *, size: int) -> list[Frames]:
    return [Frames([b"%06d" % number + b"x" * (size - 6)]) for number in range(count)]


GOODBYE = Frames([b"close_frame"])
CLOSE_FRAME = Frame(Opcode.CLOSE, Close(1008, "SLOW").serialize()).serialize(mask=False)


async def test_a_frame_is_on_its_way_before_anything_else_runs(connection: Connection) -> None:
    connection.writer.write(Frames([b"one", b"two"]))
    assert connection.arrived() == b"\x81\x03one\x81\x03two"
    assert connection.writer.transport.queued_bytes == 0


async def test_with_direct_frames_off_it_takes_a_turn_of_the_loop(connection: Connection) -> None:
    wire = DaphneTransport(connection.protocol, connection.writer, direct=False)
    wire.write(Frames([b"one", b"two"]))
    assert connection.arrived() == b""
    assert wire.queued_bytes == 10
    assert await connection.arrives(10) == b"\x81\x03one\x81\x03two"


async def test_a_client_that_asked_for_compression_is_sent_compressed_frames() -> None:
    message = b"x" * 1000
    async with opened(extensions="permessage-deflate") as connection:
        connection.writer.write(Frames([message]))
        header = await connection.arrives(2)
        assert header[0] == 0b1100_0001
        assert header[1] < 100
        compressed = Frame(Opcode.TEXT, await connection.arrives(header[1]), rsv1=True)
        assert PerMessageDeflate(False, False, 15, 15).decode(compressed).data == message


async def test_where_twisted_lacks_a_feature_everything_goes_by_asgi() -> None:
    async with opened(attaches=False) as connection:
        large = Frames([b"x" * (LIMITS.max_message_bytes + 1)])
        expected = large.data + GOODBYE.data + CLOSE_FRAME
        connection.writer.write(large)
        connection.writer.close(1008, "SLOW", final_message=GOODBYE)
        assert await connection.arrives(len(expected)) == expected


async def test_an_application_that_breaks_says_so_without_a_word_too_much(connection: Connection) -> None:
    connection.protocol.handle_exception(ValueError("secret"))
    header = await connection.arrives(4)
    error = json.loads(await connection.arrives(int.from_bytes(header[2:])))
    assert error == {
        "id": error["id"],
        "timestamp": error["timestamp"],
        "type": "error",
        "event": "error",
        "data": {},
        "error_code": "SERVER_ERROR",
        "error_message": "Internal server error",
        "retryable": True,
    }
    expected = Frame(Opcode.CLOSE, Close(1011, "SERVER_ERROR").serialize()).serialize(mask=False)
    assert await connection.arrives(len(expected)) == expected


async def test_what_the_socket_does_not_take_follows_in_order_in_whatever_parts(connection: Connection) -> None:
    written = [*numbered(1, size=100_000), *numbered(25, size=3000)]
    for frames in written:
        connection.writer.write(frames)
    assert 0 < connection.writer.transport.queued_bytes < sum(frames.size_bytes for frames in written)
    expected = b"".join(frames.data for frames in written)
    assert await connection.arrives(len(expected)) == expected
    assert connection.writer.transport.queued_bytes == 0
    connection.writer.write(GOODBYE)
    assert connection.arrived() == GOODBYE.data
    assert connection.slow == []


async def test_a_slow_reader_is_named_once_and_what_waits_is_dropped_between_two_frames(connection: Connection) -> None:
    written = numbered(200, size=3000)
    for frames in written:
        connection.writer.write(frames)
    assert connection.slow == []
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not connection.slow:  # noqa: ASYNC110 (it is the writer that is told)
            await asyncio.sleep(0.01)
    (why,) = connection.slow
    assert why.endswith(" bytes unsent, at most 200000 allowed")
    connection.writer.close(1008, "SLOW", final_message=GOODBYE)
    connection.writer.close(1000, "Later calls change nothing")
    connection.writer.write(written[0])
    received = b""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not received.endswith(CLOSE_FRAME):
            received += await connection.arrives(1)
    events = received.removesuffix(GOODBYE.data + CLOSE_FRAME)
    arrived = len(events) // len(written[0].data)
    assert 5 < arrived < 30
    assert events == b"".join(frames.data for frames in written[:arrived])


async def test_much_at_once_makes_no_slow_reader_of_one_that_takes_it(connection: Connection) -> None:
    written = numbered(180, size=3000)
    for frames in written:
        connection.writer.write(frames)
    expected = b"".join(frames.data for frames in written)
    # For longer than a burst may last, and never as fast as it could.
    for start in range(0, len(expected), 30_000):
        assert await connection.arrives(len(expected[start : start + 30_000])) == expected[start : start + 30_000]
        await asyncio.sleep(LIMITS.max_burst_seconds / 6)
    assert connection.slow == []


async def test_what_waits_in_a_burst_is_bounded(connection: Connection) -> None:
    for frames in numbered(400, size=3000):
        connection.writer.write(frames)
    (why,) = connection.slow
    assert why.endswith(" bytes unsent, at most 900000 allowed in a burst")
    assert connection.writer.transport.queued_bytes < 2 * SMALL_BYTES


async def test_who_waits_for_room_goes_on_when_there_is_some(connection: Connection) -> None:
    for frames in numbered(60, size=3000):
        connection.writer.write(frames)
    waiting = asyncio.create_task(connection.writer.drained(below_bytes=90_000))
    await connection.arrives(10_000)
    assert not waiting.done()
    await connection.arrives(120_000)
    await asyncio.wait_for(waiting, TIMEOUT_SECONDS)
    assert 0 < connection.writer.transport.queued_bytes < 90_000
    assert connection.slow == []


async def test_and_when_the_connection_is_lost(connection: Connection) -> None:
    for frames in numbered(60, size=3000):
        connection.writer.write(frames)
    waiting = asyncio.create_task(connection.writer.drained(below_bytes=90_000))
    connection.client.close()
    await asyncio.wait_for(waiting, TIMEOUT_SECONDS)


# --- In --------------------------------------------------------------------------------------------------------------


async def test_what_the_application_does_not_take_is_left_to_the_client(connection: Connection) -> None:
    loop = asyncio.get_running_loop()
    count = 20_000
    sending = asyncio.create_task(loop.sock_sendall(connection.client, b"".join(text(f"{n:06}") for n in range(count))))
    # The application may be busy for as long as it likes.
    for _ in range(200):
        await asyncio.sleep(0)
    assert not sending.done()
    assert connection.protocol.application_queue.qsize() == LIMITS.max_receive_queue_messages
    assert len(connection.protocol.data) <= SMALL_BYTES
    connection.receives.set()
    async with asyncio.timeout(TIMEOUT_SECONDS):
        assert [await connection.received.get() for _ in range(count)] == [f"{n:06}" for n in range(count)]
        await sending


async def test_who_does_not_read_is_answered_only_its_last_ping(connection: Connection) -> None:
    written = numbered(60, size=3000)
    for frames in written:
        connection.writer.write(frames)
    connection.client.send(b"".join(frame(Opcode.PING, b"%03d" % number) for number in range(100)) + text("after"))
    connection.receives.set()
    assert await connection.received.get() == "after"
    expected = b"".join(frames.data for frames in written) + b"\x8a\x03099"
    assert await connection.arrives(len(expected)) == expected
    connection.client.send(frame(Opcode.PING, b"again"))
    assert await connection.arrives(7) == b"\x8a\x05again"


async def test_the_answer_to_a_close_frame_is_read_though_reading_is_paused(connection: Connection) -> None:
    connection.writer.pause_reading()
    connection.client.send(text("unread") + frame(Opcode.CLOSE, Close(1000, "").serialize()))
    connection.writer.close(1000, "")
    assert await connection.arrives(4) == b"\x88\x02\x03\xe8"
    # It is not waited for as long as the close frame's answer may take.
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while connection.protocol.state != connection.protocol.STATE_CLOSED:  # noqa: ASYNC110 (nobody is told)
            await asyncio.sleep(0.01)


async def test_whoever_answers_the_close_frame_sees_the_connection_end_in_good_order(connection: Connection) -> None:
    connection.writer.close(1008, "SLOW")
    assert await connection.arrives(len(CLOSE_FRAME)) == CLOSE_FRAME
    connection.client.send(frame(Opcode.CLOSE, Close(1008, "").serialize()))
    # A connection that is reset instead raises an error here.
    assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(connection.client, 1), TIMEOUT_SECONDS) == b""
