"""A JavaScript client in Node.js, driven by JSON lines."""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.harness.browser import NODE
from tests.harness.programs import PROJECT_DIR

MODULE = PROJECT_DIR / "clients" / "javascript" / "mahavishnu.js"
DRIVER = Path(__file__).with_name("driver.mjs")
LINE_TIMEOUT_SECONDS = 30
MAX_LINE_BYTES = 1024 * 1024

Line = dict[str, Any]


class NodeClient:
    """The driver of a client: `clients/cases.json` describes its commands and lines."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.lines: list[Line] = []

    async def do(self, command: str, **arguments: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": command, **arguments}).encode() + b"\n")
        await self._process.stdin.drain()

    async def next_line(self) -> Line:
        assert self._process.stdout is not None
        async with asyncio.timeout(LINE_TIMEOUT_SECONDS):
            text = await self._process.stdout.readline()
        assert text, f"the driver has ended; its last lines: {self.lines[-5:]}"
        line: Line = json.loads(text)
        self.lines.append(line)
        return line

    async def until(self, is_wanted: Callable[[Line], bool]) -> Line:
        """Return the next line that is wanted; the others are kept in `lines`."""
        while not is_wanted(line := await self.next_line()):
            pass
        return line

    async def until_state(self, state: str) -> None:
        """Wait until the state of the client becomes this."""
        await self.until(lambda line: line.get("client") == state)

    async def of(self, name: str, count: int = 1) -> list[Line]:
        """Return the next lines of an iteration."""
        return [await self.until(lambda line: line.get("of") == name) for _ in range(count)]


@asynccontextmanager
async def node_client(url: str, *, module: Path = MODULE, **options: Any) -> AsyncIterator[NodeClient]:
    """Start Node with a client that connects to `url`."""
    process = await asyncio.create_subprocess_exec(NODE, DRIVER, module, stdin=PIPE, stdout=PIPE, limit=MAX_LINE_BYTES)
    client = NodeClient(process)
    try:
        await client.do("connect", url=url, options=options)
        yield client
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
