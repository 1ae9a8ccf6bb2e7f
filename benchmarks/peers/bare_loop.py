"""The lower bound: accepted sockets, one prebuilt frame, a loop of `send()` calls, without a library."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import socket
import sys

from benchmarks.peers.load import Load
from realtime.protocol.frames import text_frame

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_sockets: set[socket.socket] = set()


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    request = await reader.readuntil(b"\r\n\r\n")
    key = request.lower().partition(b"sec-websocket-key: ")[2]
    key = request[len(request) - len(key) :].partition(b"\r\n")[0]
    accept = base64.b64encode(hashlib.sha1(key + _MAGIC).digest())
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    if request.startswith(b"GET /control"):
        await _control(reader, writer)
        return
    sock = writer.transport.get_extra_info("socket")._sock
    _sockets.add(sock)
    try:
        while await reader.read(65536):
            pass
    finally:
        _sockets.discard(sock)
        writer.close()


async def _control(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        head = await reader.readexactly(2)
        length = head[1] & 0x7F
        mask = await reader.readexactly(4)
        payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(await reader.readexactly(length)))
        if head[0] & 0x0F == 8:
            writer.close()
            return
        for text in Load.of(payload.decode()).texts():
            frame = text_frame(text.encode())
            for sock in _sockets:
                sock.send(frame)


async def main(port: int) -> None:
    server = await asyncio.start_server(_serve, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
