"""The driver of the Python client for the cases in `clients/cases.json`: commands on stdin, lines on stdout."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from mahavishnu_client import Client, ClientError, Event, HistoryLost, Options, Position, connect

_OPTIONS = {
    "ping_after_ms": "ping_after_seconds",
    "pong_within_ms": "pong_within_seconds",
    "probe_within_ms": "probe_within_seconds",
    "first_retry_ms": "first_retry_seconds",
    "max_retry_ms": "max_retry_seconds",
    "request_timeout_ms": "request_timeout_seconds",
}


class Clock:
    """The clock of the machine, which a case may move."""

    ahead_seconds = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_seconds


def write(**line: Any) -> None:
    print(json.dumps(line), flush=True)


def options_of(given: dict[str, Any], clock: Clock) -> Options:
    values = {_OPTIONS.get(name, name): value / 1000 if name in _OPTIONS else value for name, value in given.items()}
    return Options(**values, wall_clock=clock)


class Driver:
    """One client, and what iterates over it."""

    def __init__(self) -> None:
        self._clock = Clock()
        self._client: Client | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._may_take: dict[str, asyncio.Event] = {}

    async def run(self, commands: AsyncIterator[dict[str, Any]]) -> None:
        async for command in commands:
            done = await getattr(self, command.pop("do"))(**command)
            if done is not None:
                write(**done)

    async def connect(
        self,
        url: str,
        options: dict[str, Any],
        resume_from: dict[str, Any] | None,
        token: str | None = None,
        tokens: list[str] | None = None,
    ) -> dict[str, str]:
        position = None if resume_from is None else msgspec.convert(resume_from, Position)

        async def next_token() -> str:
            # Each once, and then the last one.
            return tokens.pop(0) if len(tokens) > 1 else tokens[0]  # type: ignore[arg-type, union-attr, index]

        self._client = connect(
            url,
            token=next_token if tokens else token,
            resume_from=position,
            options=options_of(options, self._clock),
            on_state=lambda state: write(client=state),
            proxy=None,
        )
        await self._client.__aenter__()
        return {"done": "connect"}

    async def events(self, channel: str, resume_from: dict[str, Any] | None = None, **names: str) -> None:
        position = None if resume_from is None else msgspec.convert(resume_from, Position)
        self._start(
            names["as"],
            self._write_items(names["as"], lambda: self.client.events(channel, resume_from=position)),
        )

    async def follow(self, workflow_id: str, **names: str) -> None:
        self._start(names["as"], self._write_states(names["as"], lambda: self.client.follow(workflow_id)))

    async def request(self, name: str, data: dict[str, Any], timeout_ms: float | None = None, **names: str) -> None:
        self._start(names["as"], self._write_answer(names["as"], name, data, timeout_ms))

    async def pause(self, **names: str) -> dict[str, str]:
        self._may_take[names["as"]].clear()
        return {"done": "pause"}

    async def resume(self, **names: str) -> dict[str, str]:
        self._may_take[names["as"]].set()
        return {"done": "resume"}

    async def end(self, **names: str) -> dict[str, str]:
        task = self._tasks.pop(names["as"])
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return {"done": "end"}

    async def position(self) -> dict[str, Any]:
        return {"position": msgspec.to_builtins(self.client.position)}

    async def clock_jump(self, ms: float) -> dict[str, str]:
        self._clock.ahead_seconds += ms / 1000
        return {"done": "clock_jump"}

    async def close(self) -> dict[str, str]:
        await self.client.close()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self.__init__()  # type: ignore[misc]
        return {"done": "close"}

    @property
    def client(self) -> Client:
        assert self._client is not None, "not connected"
        return self._client

    def _start(self, name: str, work: Any) -> None:
        self._may_take[name] = asyncio.Event()
        self._may_take[name].set()
        self._tasks[name] = asyncio.create_task(work)

    async def _write_items(self, of: str, stream: Callable[[], AsyncIterator[Event | HistoryLost]]) -> None:
        try:
            # Called here: on a client that has ended, it raises.
            async for item in stream():
                await self._may_take[of].wait()
                if isinstance(item, HistoryLost):
                    write(of=of, history_lost=item.reason, channel=item.channel, seq=item.seq)
                else:
                    data = msgspec.to_builtins(item.data)
                    write(of=of, seq=item.seq, event=item.name, data=data, replayed=item.replayed)
        except ClientError as error:
            self._write_error(of, error)

    async def _write_states(self, of: str, stream: Callable[[], AsyncIterator[Any]]) -> None:
        try:
            async for view in stream():
                await self._may_take[of].wait()
                state = msgspec.to_builtins(view)
                del state["as_of"]
                write(of=of, is_live=state.pop("is_live"), state=state)
        except ClientError as error:
            self._write_error(of, error)

    async def _write_answer(self, of: str, name: str, data: dict[str, Any], timeout_ms: float | None) -> None:
        seconds = None if timeout_ms is None else timeout_ms / 1000
        try:
            write(of=of, response=await self.client.request(name, data, timeout_seconds=seconds))
        except ClientError as error:
            self._write_error(of, error)

    @staticmethod
    def _write_error(of: str, error: ClientError) -> None:
        code, maybe_done = getattr(error, "code", None), getattr(error, "maybe_done", None)
        write(of=of, error=type(error).__name__, code=code, maybe_done=maybe_done)


async def commands() -> AsyncIterator[dict[str, Any]]:
    reader = asyncio.StreamReader(limit=2**24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield json.loads(line)


if __name__ == "__main__":
    asyncio.run(Driver().run(commands()))
