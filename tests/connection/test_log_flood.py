"""No client can fill the log: one line for each kind of thing it does, and no traceback."""

from __future__ import annotations

import asyncio

import pytest
from django.conf import settings
from websockets.frames import Opcode

from tests.connection.raw_client import HANDSHAKE, frame, text
from tests.harness.fixtures import StartServer
from tests.harness.ports import HOST
from tests.harness.server import MahavishnuServer

MANY_REPETITIONS = 200
"""For a foreign host and a foreign origin, which any page of another site may cause."""

REPETITIONS = 40
MAX_LINES = 2
TIMEOUT_SECONDS = 60
CONCURRENT = 20

CLOSE_OPCODE = b"\x88"


def request(method: str, target: str, *headers: str, body: bytes = b"", host: str = "localhost") -> bytes:
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Connection: close", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def handshake(*headers: bytes, target: bytes = b"/") -> bytes:
    lines = [HANDSHAKE.removesuffix(b"\r\n").replace(b"GET /", b"GET " + target), *(line + b"\r\n" for line in headers)]
    return b"".join(lines) + b"\r\n"


MULTIPART = "Content-Type: multipart/form-data; boundary="
FORM = "Content-Type: application/x-www-form-urlencoded"

FLOODS = {
    "a foreign host": request("GET", "/", host="evil.example"),
    "a host that is none": request("GET", "/", host="a b\x7f"),
    "a missing page": request("GET", "/missing"),
    "a missing file": request("GET", "/static/missing"),
    "a file outside": request("GET", "/static/..%2f..%2fsettings.py"),
    "a file with NUL": request("GET", "/static/%00"),
    "a page that is no UTF-8": request("GET", "/%ff%0a"),
    "a method that is not allowed": request("POST", "/"),
    "a form without its token": request("POST", "/admin/login/", FORM, body=b"username=root"),
    "a form that is no form": request("POST", "/admin/login/", f"{MULTIPART}", body=b"--"),
    "a form of too many fields": request("POST", "/admin/login/", FORM, body=b"a=&" * 1001),
    "a forged session": request("GET", "/admin/", "Cookie: mahavishnu_session_8690=abc"),
    "a wrong path": handshake(target=b"/other"),
    "a foreign origin": handshake(b"Origin: http://evil.example"),
    "an origin that is no URL": handshake(b"Origin: \xff://[::1"),
    "no version": handshake().replace(b"Sec-WebSocket-Version: 13\r\n", b""),
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
    "headers without end": b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 1000 + b"\r\n",
}

FRAMES = {
    "a frame that is not masked": b"\x81\x01a",
    "a message that is too big": b"\x81\xff" + (1 << 30).to_bytes(8) + bytes(4),
    "a message that is no JSON": text("{") + frame(Opcode.CLOSE),
    "text that is no UTF-8": frame(Opcode.TEXT, b"\xff"),
}

ACCEPTED_HANDSHAKES = {
    "a subprotocol that is not ASCII": handshake(b"Sec-WebSocket-Protocol: \xff"),
    "an extension that is not ASCII": handshake(b"Sec-WebSocket-Extensions: \xff"),
    "an unknown subprotocol": handshake(b"Sec-WebSocket-Protocol: none"),
}


@pytest.fixture(scope="module")
def server(start_module_server: StartServer) -> MahavishnuServer:
    return start_module_server(
        environment={"MAHAVISHNU_LOG_REPEAT_SECONDS": str(settings.MAHAVISHNU_LOG_REPEAT_SECONDS)}
    )


async def flood(port: int, data: bytes, *, frames: bytes = b"", repetitions: int = REPETITIONS) -> None:
    """Send the same on many connections, and then frames, each until the server answers and ends it."""

    async def send_once() -> None:
        reader, writer = await asyncio.open_connection(HOST, port)
        try:
            writer.write(data)
            if frames:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(frames)
            received = b""
            while CLOSE_OPCODE not in received and (part := await reader.read(65536)):
                received += part
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()

    async def send_repeatedly() -> None:
        for _ in range(repetitions // CONCURRENT):
            await send_once()

    async with asyncio.timeout(TIMEOUT_SECONDS), asyncio.TaskGroup() as group:
        for _ in range(CONCURRENT):
            group.create_task(send_repeatedly())


@pytest.mark.parametrize("data", FLOODS.values(), ids=FLOODS)
async def test_request_cannot_fill_the_log(server: MahavishnuServer, data: bytes) -> None:
    often = data in (FLOODS["a foreign host"], FLOODS["a foreign origin"])
    before = server.log_text()
    await flood(server.port, data, repetitions=MANY_REPETITIONS if often else REPETITIONS)
    assert_short(server.log_text().removeprefix(before))


@pytest.mark.parametrize("data", ACCEPTED_HANDSHAKES.values(), ids=ACCEPTED_HANDSHAKES)
async def test_odd_handshake_is_accepted_without_a_log_line(server: MahavishnuServer, data: bytes) -> None:
    before = server.log_text()
    await flood(server.port, data, frames=frame(Opcode.CLOSE), repetitions=CONCURRENT)
    assert server.log_text() == before


@pytest.mark.parametrize("frames", FRAMES.values(), ids=FRAMES)
async def test_frames_cannot_fill_the_log(server: MahavishnuServer, frames: bytes) -> None:
    before = server.log_text()
    await flood(server.port, handshake(), frames=frames)
    assert_short(server.log_text().removeprefix(before))


def assert_short(log: str) -> None:
    assert "Traceback" not in log
    assert len(log.splitlines()) <= MAX_LINES, log
