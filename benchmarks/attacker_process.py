"""The process of `benchmarks.attacks`: one attack on a server of this machine.

`python -m benchmarks.attacker_process PORT ATTACK SECONDS` attacks until the time is over, and prints what it did as a
JSON object.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from urllib.parse import urlencode

from benchmarks.attacker import CONNECT_SECONDS, READ_BYTES, TURN_SECONDS, Attacker, request, subscribe

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""`SO_LINGER` with no time: the socket is reset (socket(7))."""

_CSRF_COOKIE = re.compile(rb"Set-Cookie:\s+(\S*csrf\S*)=([^;]+)", re.IGNORECASE)


async def bodies(attacker: Attacker) -> None:
    """Send bodies of 64 MiB to a page that expects none, four clients at a time."""

    async def attempt() -> None:
        _, writer = await attacker.open()
        writer.write(b"POST /health HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 67108864\r\n\r\n")
        try:
            for _ in range(256):
                writer.write(bytes(READ_BYTES))
                await writer.drain()
                attacker.counts["sent_mib"] += 1
        finally:
            writer.transport.abort()

    await attacker.at_once(4, attempt)


async def replays_then_reset(attacker: Attacker) -> None:
    """Ask for 16 replays of 10,000 events and reset, 20 clients at a time."""

    async def attempt() -> None:
        _, writer = await attacker.open_websocket()
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        writer.write(subscribe("workflow:small", since=0) * 16)
        await asyncio.sleep(0.2)
        writer.transport.abort()

    await attacker.at_once(20, attempt)


async def unread_replays(attacker: Attacker) -> None:
    """Ask for the same replay of large events from 200 clients, and read nothing."""

    async def attempt() -> None:
        _, writer = await attacker.open_websocket()
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # A transport of a socket has it.
        writer.write(subscribe("workflow:large", since=0))
        await attacker.until_over()

    await attacker.at_once(200, attempt)


async def idle_connections(attacker: Attacker) -> None:
    """Hold as many connections as the server allows."""

    async def attempt() -> None:
        _, writer = await attacker.open_websocket()
        del writer
        await attacker.until_over()

    await attacker.at_once(1200, attempt)


async def rejected_connections(attacker: Attacker) -> None:
    """Connect without pause, and close nothing that the server rejects."""
    held = []

    async def attempt() -> None:
        held.append(await attacker.open())
        attacker.counts["opened"] += 1

    await attacker.at_once(20, attempt)


def _requests_within_the_rate(frame: bytes) -> Callable[[Attacker], Awaitable[None]]:
    async def attack(attacker: Attacker) -> None:
        async def attempt() -> None:
            reader, writer = await attacker.open_websocket()
            reading = asyncio.create_task(_discard(reader))
            try:
                while not attacker.is_over and not reading.done():
                    writer.write(frame * 10)
                    await writer.drain()
                    attacker.counts["messages"] += 10
                    await asyncio.sleep(TURN_SECONDS)
            finally:
                reading.cancel()
                writer.transport.abort()

        await attacker.at_once(200, attempt)

    return attack


async def _discard(reader: asyncio.StreamReader) -> None:
    while await reader.read(READ_BYTES):
        pass


async def replays_in_loops(attacker: Attacker) -> None:
    """Ask for a replay of 10,000 events again as soon as it has arrived, 50 clients at a time."""

    async def attempt() -> None:
        reader, writer = await attacker.open_websocket()
        try:
            while not attacker.is_over:
                # A query is answered after the replay that was requested before it.
                writer.write(subscribe("workflow:small", since=0) + request("get_workflow_status", workflow_id="wide"))
                received = b""
                is_refused = False
                while b'"get_workflow_status"' not in received:
                    more = await asyncio.wait_for(reader.read(READ_BYTES), CONNECT_SECONDS)
                    if not more:
                        raise ConnectionResetError("closed during a replay")
                    attacker.counts["received_bytes"] += len(more)
                    received = received[-64:] + more
                    is_refused = is_refused or b"RATE_LIMIT_EXCEEDED" in received
                attacker.counts["refused_replays" if is_refused else "replays"] += 1
                if is_refused:
                    await asyncio.sleep(TURN_SECONDS)
        finally:
            writer.transport.abort()

    await attacker.at_once(50, attempt)


async def snapshots_in_loops(attacker: Attacker) -> None:
    """Ask for the snapshot of a workflow of 500 stages again and again, 4 clients at a time."""

    async def attempt() -> None:
        reader, writer = await attacker.open_websocket()
        reading = asyncio.create_task(_discard(reader))
        try:
            while not attacker.is_over and not reading.done():
                writer.write(subscribe("workflow:wide", snapshot=True) * 4)
                attacker.counts["requests"] += 4
                await writer.drain()
                await asyncio.sleep(0.04)
        finally:
            reading.cancel()
            writer.transport.abort()

    await attacker.at_once(4, attempt)


def _http_in_loops(number: int, path: str) -> Callable[[Attacker], Awaitable[None]]:
    async def attack(attacker: Attacker) -> None:
        async def attempt() -> None:
            status = await _get(attacker, path)
            attacker.counts[f"status_{status}"] += 1

        await attacker.at_once(number, attempt)

    return attack


async def _get(attacker: Attacker, path: str) -> int:
    reader, writer = await attacker.open()
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        answer = await asyncio.wait_for(reader.read(), CONNECT_SECONDS)
        return int(answer.split(b" ", 2)[1]) if answer else 0
    finally:
        writer.transport.abort()


async def logins(attacker: Attacker) -> None:
    """Guess the password of an admin, 20 guesses at a time."""

    async def attempt() -> None:
        reader, writer = await attacker.open()
        try:
            writer.write(b"GET /admin/login/ HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            page = await asyncio.wait_for(reader.read(), CONNECT_SECONDS)
        finally:
            writer.transport.abort()
        found = _CSRF_COOKIE.search(page)
        if found is None:
            attacker.counts[f"without_token_{page[9:12].decode()}"] += 1
            await asyncio.sleep(TURN_SECONDS)
            return
        name, token = (group.decode() for group in found.groups())
        body = urlencode({"csrfmiddlewaretoken": token, "username": "admin", "password": "guess"})
        reader, writer = await attacker.open()
        try:
            writer.write(
                "POST /admin/login/ HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
                f"Cookie: {name}={token}\r\nContent-Type: application/x-www-form-urlencoded\r\n"
                f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
            )
            answer = await asyncio.wait_for(reader.read(), CONNECT_SECONDS)
            attacker.counts[f"status_{answer.split(b' ', 2)[1].decode() if answer else 0}"] += 1
        finally:
            writer.transport.abort()

    await attacker.at_once(20, attempt)


async def leaving(attacker: Attacker) -> None:
    """Subscribe 100 clients to 128 channels each, and reset all of them together, again and again."""

    async def subscribed(number: int) -> asyncio.StreamWriter:
        reader, writer = await attacker.open_websocket()
        writer.write(b"".join(subscribe(f"workflow:left-{number}-{channel}") for channel in range(128)))
        received = b""
        while b"left-%d-127" % number not in received:
            more = await asyncio.wait_for(reader.read(READ_BYTES), 2 * CONNECT_SECONDS)
            if not more:
                raise ConnectionResetError("closed before all channels were subscribed")
            received = received[-64:] + more
        return writer

    async def attempt() -> None:
        for client in await asyncio.gather(*map(subscribed, range(100)), return_exceptions=True):
            if isinstance(client, asyncio.StreamWriter):
                client.transport.abort()
                attacker.counts["left"] += 1
        await asyncio.sleep(2)

    await attacker.repeat(attempt)


async def unread_frames(attacker: Attacker) -> None:
    """Send thousands of empty fragments and reset, 20 clients at a time."""
    fragments = b"\x01\x80\0\0\0\0" + b"\x00\x80\0\0\0\0" * 8000

    async def attempt() -> None:
        _, writer = await attacker.open_websocket()
        writer.write(fragments)
        await asyncio.sleep(TURN_SECONDS)
        writer.transport.abort()

    await attacker.at_once(20, attempt)


ATTACKS: dict[str, Callable[[Attacker], Awaitable[None]]] = {
    "bodies": bodies,
    "replays_then_reset": replays_then_reset,
    "unread_replays": unread_replays,
    "idle_connections": idle_connections,
    "rejected_connections": rejected_connections,
    "pings": _requests_within_the_rate(request("ping")),
    "status_queries": _requests_within_the_rate(request("get_workflow_status", workflow_id="wide")),
    "replays_in_loops": replays_in_loops,
    "snapshots_in_loops": snapshots_in_loops,
    "health": _http_in_loops(8, "/health"),
    "index_page": _http_in_loops(50, "/"),
    "logins": logins,
    "leaving": leaving,
    "unread_frames": unread_frames,
}


async def _run(port: int, name: str, seconds: float) -> Counter[str]:
    attacker = Attacker(port, seconds)
    with suppress(TimeoutError):
        await asyncio.wait_for(ATTACKS[name](attacker), seconds + 2 * CONNECT_SECONDS)
    return attacker.counts


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_run(int(sys.argv[1]), sys.argv[2], float(sys.argv[3])))))
