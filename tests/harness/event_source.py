"""A client of server-sent events, byte by byte as they come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.harness.ports import HOST
from tests.harness.server import MahavishnuServer

TIMEOUT_SECONDS = 40


@dataclass(frozen=True)
class Received:
    """What came between two empty lines: its fields, such as `id`; that of a comment is empty."""

    fields: dict[str, str]

    @property
    def message(self) -> Any:
        return json.loads(self.fields["data"])


class EventSource:
    """One open response.

    Attributes:
        status: Its status.
        headers: Its headers, by their names in lower case.
    """

    def __init__(self, reader: asyncio.StreamReader, status: int, headers: Mapping[str, str]) -> None:
        self.status = status
        self.headers = headers
        self._reader = reader
        self._text = b""

    async def next(self) -> Received | None:
        """Return what comes next; None at the end of the response.

        Raises:
            asyncio.IncompleteReadError: if the connection ends before the response.
        """
        while b"\n\n" not in self._text:
            size = int(await self._reader.readuntil(b"\r\n"), 16)
            chunk = await self._reader.readexactly(size + 2)
            if not size:
                assert self._text == b""
                return None
            self._text += chunk[:-2]
        part, _, self._text = self._text.partition(b"\n\n")
        return Received(dict(_field(line) for line in part.decode().split("\n")))

    async def event(self) -> Received:
        """Return the next event, and pass over comments."""
        while (received := await self.next()) is not None:
            if received.fields.keys() != {""}:
                return received
        raise AssertionError("the response has ended")


def _field(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name, value.removeprefix(" ")


@asynccontextmanager
async def open_events(
    server: MahavishnuServer, path: str, headers: Mapping[str, str] | None = None
) -> AsyncIterator[EventSource]:
    """Request the path below `/api/v1/` with `Accept: text/event-stream`."""
    reader, writer = await asyncio.open_connection(HOST, server.port)
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            sent = {"Host": f"127.0.0.1:{server.port}", "Accept": "text/event-stream", **(headers or {})}
            lines = [f"GET /api/v1/{path} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items()), "", ""]
            writer.write("\r\n".join(lines).encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
            fields = (line.partition(": ") for line in head[1:] if line)
            received = {name.lower(): value for name, _, value in fields}
            yield EventSource(reader, int(head[0].split()[1]), received)
    finally:
        writer.transport.abort()
