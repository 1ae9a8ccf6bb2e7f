"""The receiving side under daphne, in the test's own process: the receive queue, pings, and paused reading."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from websockets.frames import Close, Opcode

from realtime.protocol.frames import Frames
from tests.connection.raw_client import frame, text
from tests.daphne_server.in_process import (
    LIMITS,
    SMALL_BYTES,
    TIMEOUT_SECONDS,
    InProcessConnection,
)


async def test_full_receive_queue_pauses_reading(connection: InProcessConnection) -> None:
    loop = asyncio.get_running_loop()
    count = 20_000
    sending = asyncio.create_task(loop.sock_sendall(connection.client, b"".join(text(f"{n:06}") for n in range(count))))
    # The application reads nothing for this long.
    for _ in range(200):
        await asyncio.sleep(0)
    assert not sending.done()
    assert connection.protocol.application_queue.qsize() == LIMITS.max_receive_queue_messages
    assert len(connection.protocol.data) <= SMALL_BYTES
    connection.may_receive.set()
    async with asyncio.timeout(TIMEOUT_SECONDS):
        assert [await connection.received.get() for _ in range(count)] == [f"{n:06}" for n in range(count)]
        await sending


async def test_only_the_last_ping_of_a_client_that_does_not_read_is_answered(connection: InProcessConnection) -> None:
    written = [Frames([b"x" * 3000])] * 60
    for frames in written:
        connection.writer.write(frames)
    connection.client.send(b"".join(frame(Opcode.PING, b"%03d" % number) for number in range(100)) + text("after"))
    connection.may_receive.set()
    assert await connection.received.get() == "after"
    expected = b"".join(frames.data for frames in written) + b"\x8a\x03099"
    assert await connection.read_exactly(len(expected)) == expected
    connection.client.send(frame(Opcode.PING, b"again"))
    assert await connection.read_exactly(7) == b"\x8a\x05again"


async def test_idle_client_is_pinged_after_the_wall_clock_was_set_back(
    connection: InProcessConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection.protocol.server.ping_interval = 0
    hour_ago = time.time() - 3600
    monkeypatch.setattr(time, "time", lambda: hour_ago)
    connection.protocol.check_timeouts()
    assert (await connection.read_exactly(2))[0] == 0x80 | Opcode.PING


async def test_close_frame_is_read_while_reading_is_paused(connection: InProcessConnection) -> None:
    connection.writer.pause_reading()
    connection.client.send(text("unread") + frame(Opcode.CLOSE, Close(1000, "").serialize()))
    connection.writer.close(1000, "")
    assert await connection.read_exactly(4) == b"\x88\x02\x03\xe8"
    # `close_timeout_seconds` is longer than this.
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while connection.protocol.state != connection.protocol.STATE_CLOSED:  # noqa: ASYNC110 (no event for it)
            await asyncio.sleep(0.01)


async def test_few_frames_are_parsed_after_the_close_frame(
    connection: InProcessConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed = 0  # Headers and payloads: two calls a frame.
    parse_part = connection.protocol.processData

    def count_parts() -> Any:
        nonlocal parsed
        parsed += 1
        return parse_part()

    connection.writer.close(1008, "")
    monkeypatch.setattr(connection.protocol, "processData", count_parts)
    flood = asyncio.create_task(asyncio.get_running_loop().sock_sendall(connection.client, text("") * 100_000))
    assert await connection.read_exactly(4) == b"\x88\x02\x03\xf0"
    # The server ends the stream, and reads the flood to its end without parsing it.
    async with asyncio.timeout(TIMEOUT_SECONDS):
        assert await asyncio.get_running_loop().sock_recv(connection.client, 1) == b""
        await flood
    assert 0 < parsed <= 2 * 16 * 1024 / len(text(""))
