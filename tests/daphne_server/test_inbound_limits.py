"""Limits on what a client sends: sizes, frames, deadlines and rates. The client gets the reason before the close."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from websockets.frames import Close, Frame, Opcode

from tests.connection.raw_client import frame, open_raw, text
from tests.harness.fixtures import StartServer
from tests.harness.ports import HOST
from tests.harness.server import MahavishnuServer

MAX_MESSAGE_BYTES = 64 * 1024

DEADLINE_SECONDS = 2.5

LONG_SECONDS = 30
"""How long a test waits for what would never happen without the deadline."""

LARGEST_PING = b'{"type":"ping","id":"%s"}' % (b"x" * (MAX_MESSAGE_BYTES - 23))
assert len(LARGEST_PING) == MAX_MESSAGE_BYTES


@pytest.fixture(scope="module")
def short_deadline_server(start_module_server: StartServer) -> MahavishnuServer:
    """Start a server with short deadlines, yet long enough for a busy machine."""
    return start_module_server(
        open_timeout_seconds=DEADLINE_SECONDS,
        close_timeout_seconds=DEADLINE_SECONDS,
    )


@pytest.fixture(scope="module")
def low_rate_server(start_module_server: StartServer) -> MahavishnuServer:
    """Start a server that soon closes the connection of a client that sends too fast."""
    return start_module_server(close_timeout_seconds=LONG_SECONDS, max_message_burst=10, rate_limit_grace_seconds=0.1)


def is_error(error: dict[str, Any], code: str, message: str) -> bool:
    """Return whether this is an error message with this code and text, and nothing else."""
    variable = {"id": error["id"], "timestamp": error["timestamp"]}
    return error == variable | {
        "type": "error",
        "event": "error",
        "data": {},
        "error_code": code,
        "error_message": message,
        "retryable": False,
    }


def fragments(message: bytes, *, size: int) -> list[bytes]:
    """Split a text message into frames of `size` bytes each."""
    parts = [message[start : start + size] for start in range(0, len(message), size)]
    return [
        frame(Opcode.CONT if number else Opcode.TEXT, part, fin=number == len(parts) - 1)
        for number, part in enumerate(parts)
    ]


@pytest.mark.parametrize("size", [MAX_MESSAGE_BYTES, 16 * 1024, 1000])
async def test_message_of_the_maximum_size_is_read_whole_or_in_fragments(server: MahavishnuServer, size: int) -> None:
    async with open_raw(server.port) as client:
        await client.send(*fragments(LARGEST_PING, size=size))
        answer = await client.message()
        assert (answer["type"], answer["correlation_id"]) == ("pong", json.loads(LARGEST_PING)["id"])


TOO_BIG = {
    "one byte more": [text(LARGEST_PING + b"x")],
    "one byte more, in fragments": fragments(LARGEST_PING + b"x", size=16 * 1024),
    "a header that announces a gigabyte": [b"\x81\xff" + (1 << 30).to_bytes(8) + b"mask"],
    "a binary message": [frame(Opcode.BINARY, b"\x00" * (MAX_MESSAGE_BYTES + 1))],
}


@pytest.mark.parametrize("frames", TOO_BIG.values(), ids=list(TOO_BIG))
async def test_larger_message_closes_with_an_error_and_1009(server: MahavishnuServer, frames: list[bytes]) -> None:
    async with open_raw(server.port) as client:
        await client.send(*frames)
        size = 1 << 30 if len(frames[0]) < 20 else MAX_MESSAGE_BYTES + 1
        message = f"Message of at least {size} bytes exceeds the limit of {MAX_MESSAGE_BYTES} bytes"
        assert is_error(await client.message(), "MESSAGE_TOO_BIG", message)
        assert (await client.receive()).close() == (1009, "MESSAGE_TOO_BIG")
        assert await client.ended()


INVALID_FRAMES = {
    "an unmasked frame": (Frame(Opcode.TEXT, b"{}").serialize(mask=False), 1002),
    "a reserved bit": (b"\xa1\x80mask", 1002),
    "the bit of a compressed message": (b"\xc1\x80mask", 1002),
    "a reserved opcode": (b"\x83\x80mask", 1002),
    "a reserved control opcode": (b"\x8b\x80mask", 1002),
    "a control frame with more than 125 bytes": (b"\x89\xfe\x01\x00mask" + b"x" * 256, 1002),
    "a fragmented ping": (b"\x09\x80mask", 1002),
    "a continuation of nothing": (frame(Opcode.CONT, b"x"), 1002),
    "a message inside a message": (text("{", fin=False) + text("{}"), 1002),
    "a length that is not in its shortest form": (b"\x81\xfe\x00\x01maskx", 1002),
    "a close frame with half a code": (b"\x88\x81maskx", 1002),
    "a close code that does not exist": (frame(Opcode.CLOSE, (999).to_bytes(2)), 1002),
    "a close reason that is not UTF-8": (frame(Opcode.CLOSE, (1000).to_bytes(2) + b"\xff"), 1007),
    "text that is not UTF-8": (text(b"\xff\xfe"), 1007),
    "an overlong character": (text(b"\xc0\xaf"), 1007),
    "half a surrogate pair": (text(b"\xed\xa0\x80"), 1007),
    "text that ends within a character": (text("é".encode()[:1]), 1007),
    "text in two fragments that ends within a character": (
        text(b"\xf0\x9f", fin=False) + frame(Opcode.CONT, b"\x98"),
        1007,
    ),
}


@pytest.mark.parametrize(("data", "code"), INVALID_FRAMES.values(), ids=list(INVALID_FRAMES))
async def test_invalid_frame_closes_with_an_error_and_its_code(
    server: MahavishnuServer, data: bytes, code: int
) -> None:
    async with open_raw(server.port) as client:
        # Later input is ignored, and must not keep the final message from the client.
        await client.send(data, text('{"type":"ping"}') * 5000)
        error = await client.message()
        reason = error["error_message"].removeprefix("Invalid WebSocket frame (RFC 6455): ")
        assert is_error(error, "INVALID_MESSAGE", f"Invalid WebSocket frame (RFC 6455): {reason}")
        assert reason
        assert (await client.receive()).close() == (code, "INVALID_MESSAGE")
        assert await client.ended()


async def test_close_frame_of_the_client_is_answered(server: MahavishnuServer) -> None:
    async with open_raw(server.port) as client:
        await client.send(frame(Opcode.CLOSE, Close(1000, "bye").serialize()))
        assert (await client.receive()).close() == (1000, "")
        assert await client.ended()


async def test_unanswered_close_frame_drops_the_connection_in_time(short_deadline_server: MahavishnuServer) -> None:
    async with open_raw(short_deadline_server.port) as client:
        began = time.monotonic()
        await client.send(text(b"\xff"), *TOO_BIG["one byte more"])
        assert (await client.message())["type"] == "error"
        assert (await client.receive()).opcode == Opcode.CLOSE
        # The client keeps sending and never closes: only a reset ends that.
        with pytest.raises(ConnectionError):
            async with asyncio.timeout(LONG_SECONDS):
                while True:
                    await client.send(text("{}") * 100)
                    await asyncio.sleep(0.01)
        assert time.monotonic() - began >= DEADLINE_SECONDS


async def test_flood_after_the_close_frame_is_ignored(low_rate_server: MahavishnuServer) -> None:
    async with open_raw(low_rate_server.port) as client:
        flooding = asyncio.create_task(client.send(*[text('{"type":"ping"}') * 100] * 1000))
        while (received := await client.receive()).opcode == Opcode.TEXT:
            pass
        assert received.close() == (1008, "RATE_LIMIT_EXCEEDED")
        # The stream ends without a reset, although the close frame is not answered.
        assert await client.ended()
        await asyncio.wait([flooding], timeout=1)


async def test_http_request_sent_byte_by_byte_times_out(short_deadline_server: MahavishnuServer) -> None:
    began = time.monotonic()
    reader, writer = await asyncio.open_connection(HOST, short_deadline_server.port)
    # Read only the first line: a byte sent after the server has closed may be answered with a reset.
    answer = asyncio.create_task(reader.readuntil(b"\r\n"))
    with pytest.raises(ConnectionError):
        async with asyncio.timeout(LONG_SECONDS):
            for byte in b"GET / HTTP/1.1\r\nX-Slow: " + b"x" * 10_000:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.02)
                if answer.done():
                    raise ConnectionError
    assert (await answer).startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - began >= DEADLINE_SECONDS
    writer.close()


async def test_http_connection_without_a_request_times_out(short_deadline_server: MahavishnuServer) -> None:
    reader, writer = await asyncio.open_connection(HOST, short_deadline_server.port)
    async with asyncio.timeout(LONG_SECONDS):
        assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
    writer.close()


async def test_http_deadline_covers_bodies_and_later_requests_but_not_idle_time(
    short_deadline_server: MahavishnuServer,
) -> None:
    reader, writer = await asyncio.open_connection(HOST, short_deadline_server.port)
    async with open_raw(short_deadline_server.port) as client:
        for _ in range(2):
            writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split()[0]))
            # Idle time between requests may exceed the deadline, and so may that of a WebSocket.
            await asyncio.sleep(DEADLINE_SECONDS + 0.2)
        await client.send(text('{"type":"ping"}'))
        assert (await client.message())["type"] == "pong"
    writer.write(b"POST /admin/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf of it")
    assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
    writer.close()


FINAL_FRAGMENT = frame(Opcode.CONT, b'{"type":"ping","id":"fragmented"}')
SMALL_FRAMES = {
    "pings": [frame(Opcode.PING, b"%03d" % number) for number in range(300)],
    "fragments": [frame(Opcode.TEXT, b"", fin=False), *[frame(Opcode.CONT, b"", fin=False)] * 298, FINAL_FRAGMENT],
}


@pytest.mark.parametrize("frames", SMALL_FRAMES.values(), ids=list(SMALL_FRAMES))
async def test_control_frames_and_fragments_are_read_at_the_message_rate(
    server: MahavishnuServer, frames: list[bytes]
) -> None:
    async with open_raw(server.port) as client:
        began = time.monotonic()
        await client.send(*frames, text('{"type":"ping","id":"last"}'))
        pongs = 0
        while (received := await client.receive()).opcode == Opcode.PONG:
            assert received.payload == b"%03d" % pongs
            pongs += 1
        assert pongs == (300 if frames is SMALL_FRAMES["pings"] else 0)
        # A burst of 150, then a hundred a second.
        assert 1.0 < time.monotonic() - began < 10
        if pongs == 0:
            assert received.json()["correlation_id"] == "fragmented"
            received = await client.receive()
        assert received.json()["correlation_id"] == "last"
