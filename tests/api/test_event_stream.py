"""Server-sent events in this process: heartbeats, credentials that end, and a client that pauses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

import pytest

from realtime.api import event_stream
from realtime.api.event_stream import EventStream, StreamPosition, parse_position
from realtime.auth.identity import Identity
from realtime.connection.http_output import UnpausedOutput
from realtime.connection.registry import connection_registry
from realtime.connection.replay_budget import ReplayBudget
from realtime.limits import Limits
from realtime.queries.stream_states import StageStreams
from realtime.streams.chunk_store import Entry
from realtime.streams.followed_stream import FollowedStream
from realtime.streams.hub import StreamHub

COMMENT = b":\n\n"


class PausableOutput(UnpausedOutput):
    """An output that the test pauses and resumes."""

    is_aborted = False

    def abort(self) -> None:
        self.is_aborted = True

    def pause(self) -> None:
        self.is_paused = True

    def resume(self) -> None:
        self.is_paused = False
        self.on_resumed()


class Client:
    """A response, and the stream that it reads."""

    def __init__(self, *, attempt: int = 1, expires_at: float | None = None, position: str = "") -> None:
        limits = Limits()
        stage = StageStreams(1, attempt, datetime(2026, 2, 10, tzinfo=UTC), "running", {"answer": "text"})
        self.output = PausableOutput()
        self.stream = FollowedStream("stream:wf/write/answer", "answer", stage, installation="here")
        self.stream.set_last_id(b"0-0")
        self.response = EventStream(
            StreamHub(limits),
            self.stream,
            parse_position(position) or StreamPosition(None, 0),
            identity=Identity(user_id="ada", permissions=(), expires_at=expires_at),
            address=None,
            budget=ReplayBudget(limits),
            make_output=lambda: self.output,
            limits=limits,
        )
        self.parts: AsyncIterator[bytes] = self.response.parts()

    def add(self, offset: int, text: str) -> None:
        self.stream.add([Entry(b"1-1", offset, text.encode())])


@pytest.fixture
async def open_client(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., Client]]:
    """Return a function that makes a response. The hub reads neither Redis nor the database."""
    monkeypatch.setattr(StreamHub, "_server_of", lambda *_: None)
    monkeypatch.setattr(StreamHub, "_check", _check_nothing)
    clients: list[Client] = []

    def make(**arguments: object) -> Client:
        clients.append(Client(**arguments))  # type: ignore[arg-type]
        return clients[-1]

    yield make
    for client in clients:
        await client.parts.aclose()  # type: ignore[attr-defined]
        await client.response._hub.close()
        assert client.response not in list(connection_registry)


async def _check_nothing(_hub: StreamHub) -> None:
    """Read no database."""


async def next_id(client: Client) -> str:
    """Return the id of the next part, with its name and text."""
    lines = (await anext(client.parts)).decode().split("\n")
    return f"{lines[0]} {lines[1]}"


async def test_comments_keep_an_idle_response_open(
    open_client: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "HEARTBEAT_SECONDS", 0.0)
    client = open_client()
    assert [await anext(client.parts) for _ in range(3)] == [COMMENT] * 3


async def test_client_of_another_attempt_is_reset(open_client: Callable[..., Client]) -> None:
    client = open_client(attempt=2, position="1-7")
    client.add(0, "abc")
    assert await anext(client.parts) == COMMENT
    assert await next_id(client) == "id: 2-0 event: stream.reset"
    assert await next_id(client) == "id: 2-3 event: stream.chunk"


async def test_paused_client_gets_later_chunks_joined(open_client: Callable[..., Client]) -> None:
    client = open_client()
    assert await anext(client.parts) == COMMENT
    client.output.pause()
    client.add(0, "a")
    waiting = asyncio.ensure_future(anext(client.parts))
    for offset in range(1, 50):
        await asyncio.sleep(0)
        client.add(offset, "b")
    assert not waiting.done()
    client.output.resume()
    assert (await waiting).startswith(b"id: 1-50\nevent: stream.chunk\n")


@pytest.mark.parametrize("is_paused", [False, True])
async def test_revoked_client_gets_nothing_more(open_client: Callable[..., Client], is_paused: bool) -> None:
    client = open_client()
    assert await anext(client.parts) == COMMENT
    if is_paused:
        client.output.pause()
    client.add(0, "secret")
    (registered,) = [each for each in connection_registry if each is client.response]
    registered.on_revoked()
    assert [part async for part in client.parts] == []
    assert client.output.is_aborted == is_paused


async def test_response_that_begins_while_the_server_drains_ends_at_once(
    open_client: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_registry, "is_draining", True)
    assert await anext(open_client().parts, None) is None


async def test_response_ends_with_the_credentials(open_client: Callable[..., Client]) -> None:
    client = open_client(expires_at=time.time() + 0.2)
    assert [part async for part in client.parts] == [COMMENT]
