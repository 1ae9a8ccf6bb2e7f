"""The transport under daphne: direct sending, the queue, slow consumers, and closing."""

from __future__ import annotations

import asyncio
import json

from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Close, Frame, Opcode

from realtime.daphne_server.transport import DaphneTransport
from realtime.protocol.frames import Frames
from tests.daphne_server.in_process import (
    LIMITS,
    SMALL_BYTES,
    TIMEOUT_SECONDS,
    InProcessConnection,
    open_in_process,
)

FINAL_MESSAGE = Frames([b"final message"])
CLOSE_FRAME = Frame(Opcode.CLOSE, Close(1008, "SLOW").serialize()).serialize(mask=False)


def numbered_frames(count: int, *, size: int) -> list[Frames]:
    return [Frames([b"%06d" % number + b"x" * (size - 6)]) for number in range(count)]


async def test_direct_frames_reaches_the_client_within_the_call(connection: InProcessConnection) -> None:
    connection.writer.write(Frames([b"one", b"two"]))
    assert connection.read_available() == b"\x81\x03one\x81\x03two"
    assert connection.writer.transport.queued_bytes == 0


async def test_without_direct_frames_frames_leave_in_the_next_loop_iteration(connection: InProcessConnection) -> None:
    transport = DaphneTransport(connection.protocol, connection.writer, direct_frames=False)
    transport.write(Frames([b"one", b"two"]))
    assert connection.read_available() == b""
    assert transport.queued_bytes == 10
    assert await connection.read_exactly(10) == b"\x81\x03one\x81\x03two"


async def test_compression_extension_compresses_frames() -> None:
    message = b"x" * 1000
    async with open_in_process(extensions="permessage-deflate") as connection:
        connection.writer.write(Frames([message]))
        header = await connection.read_exactly(2)
        assert header[0] == 0b1100_0001
        assert header[1] < 100
        compressed = Frame(Opcode.TEXT, await connection.read_exactly(header[1]), rsv1=True)
        assert PerMessageDeflate(False, False, 15, 15).decode(compressed).data == message


async def test_without_the_daphne_transport_everything_is_sent_through_asgi() -> None:
    async with open_in_process(use_daphne_transport=False) as connection:
        large = Frames([b"x" * (LIMITS.max_message_bytes + 1)])
        expected = large.data + FINAL_MESSAGE.data + CLOSE_FRAME
        connection.writer.write(large)
        connection.writer.close(1008, "SLOW", final_message=FINAL_MESSAGE)
        assert await connection.read_exactly(len(expected)) == expected


async def test_application_exception_closes_with_server_error_and_no_details(connection: InProcessConnection) -> None:
    connection.protocol.handle_exception(ValueError("secret"))
    header = await connection.read_exactly(4)
    error = json.loads(await connection.read_exactly(int.from_bytes(header[2:])))
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
    assert await connection.read_exactly(len(expected)) == expected


async def test_queued_frames_follow_in_order(connection: InProcessConnection) -> None:
    written = [*numbered_frames(1, size=100_000), *numbered_frames(25, size=3000)]
    for frames in written:
        connection.writer.write(frames)
    assert 0 < connection.writer.transport.queued_bytes < sum(frames.size_bytes for frames in written)
    expected = b"".join(frames.data for frames in written)
    assert await connection.read_exactly(len(expected)) == expected
    assert connection.writer.transport.queued_bytes == 0
    connection.writer.write(FINAL_MESSAGE)
    assert connection.read_available() == FINAL_MESSAGE.data
    assert connection.slow_reasons == []


async def test_slow_consumer_is_reported_once_and_its_queue_is_dropped_between_two_frames(
    connection: InProcessConnection,
) -> None:
    written = numbered_frames(200, size=3000)
    for frames in written:
        connection.writer.write(frames)
    assert connection.slow_reasons == []
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not connection.slow_reasons:  # noqa: ASYNC110 (`on_slow` is a plain function)
            await asyncio.sleep(0.01)
    (reason,) = connection.slow_reasons
    assert reason.endswith(" bytes queued, limit 200000")
    connection.writer.close(1008, "SLOW", final_message=FINAL_MESSAGE)
    connection.writer.close(1000, "Later calls have no effect")
    connection.writer.write(written[0])
    received = b""
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not received.endswith(CLOSE_FRAME):
            received += await connection.read_exactly(1)
    events = received.removesuffix(FINAL_MESSAGE.data + CLOSE_FRAME)
    arrived = len(events) // len(written[0].data)
    assert 5 < arrived < 30
    assert events == b"".join(frames.data for frames in written[:arrived])


async def test_client_that_reads_a_burst_steadily_is_not_a_slow_consumer(connection: InProcessConnection) -> None:
    written = numbered_frames(180, size=3000)
    for frames in written:
        connection.writer.write(frames)
    expected = b"".join(frames.data for frames in written)
    # It reads for longer than a burst may last, and slower than it could.
    for start in range(0, len(expected), 30_000):
        chunk = expected[start : start + 30_000]
        assert await connection.read_exactly(len(chunk)) == chunk
        await asyncio.sleep(LIMITS.max_burst_seconds / 6)
    assert connection.slow_reasons == []


async def test_burst_limit_drops_the_queue(connection: InProcessConnection) -> None:
    for frames in numbered_frames(400, size=3000):
        connection.writer.write(frames)
    (reason,) = connection.slow_reasons
    assert reason.endswith(" bytes queued, burst limit 900000")
    assert connection.writer.transport.queued_bytes < 2 * SMALL_BYTES


async def test_drained_resumes_below_threshold(connection: InProcessConnection) -> None:
    for frames in numbered_frames(60, size=3000):
        connection.writer.write(frames)
    waiting = asyncio.create_task(connection.writer.drained(below_bytes=90_000))
    await connection.read_exactly(10_000)
    assert not waiting.done()
    await connection.read_exactly(120_000)
    await asyncio.wait_for(waiting, TIMEOUT_SECONDS)
    assert 0 < connection.writer.transport.queued_bytes < 90_000
    assert connection.slow_reasons == []


async def test_drained_resumes_when_the_connection_is_lost(connection: InProcessConnection) -> None:
    for frames in numbered_frames(60, size=3000):
        connection.writer.write(frames)
    waiting = asyncio.create_task(connection.writer.drained(below_bytes=90_000))
    connection.client.close()
    await asyncio.wait_for(waiting, TIMEOUT_SECONDS)


async def test_answered_close_frame_ends_the_connection_without_a_reset(connection: InProcessConnection) -> None:
    connection.writer.close(1008, "SLOW")
    assert await connection.read_exactly(len(CLOSE_FRAME)) == CLOSE_FRAME
    connection.client.send(Frame(Opcode.CLOSE, Close(1008, "").serialize()).serialize(mask=True))
    # A reset would raise an error here.
    assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(connection.client, 1), TIMEOUT_SECONDS) == b""


async def test_connection_that_daphne_has_removed_ends_without_an_error() -> None:
    async with open_in_process() as connection:
        connection.protocol.server.connections.clear()
