"""Readers of one stream that share its subscription: what each delivers while its queue is full, and afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from mahavishnu_client import Chunk, Options, StreamClosed, StreamGap, StreamReset
from mahavishnu_client.callbacks import Callbacks
from mahavishnu_client.chunks import ChunkQueue, StreamItem
from mahavishnu_client.session import Session

CHANNEL = "stream:wf/answer/reply"
OPTIONS = Options(max_queued_bytes=6)
WELCOME = {"type": "event", "event": "session.created", "data": {"seq": 0, "epoch": "e"}}


def nothing(*_: Any) -> None:
    """Take any arguments."""


class StreamServer:
    """A session, and the messages that a server would send to it."""

    def __init__(self) -> None:
        self._session = Session(Callbacks(nothing, nothing, nothing, nothing, nothing, nothing))
        self.connect()

    def connect(self) -> None:
        self._session.on_connected()
        self._receive(WELCOME)

    def reconnect(self) -> None:
        self._session.on_disconnected(as_of=0.0)
        self.connect()

    def reader(self, options: Options = OPTIONS, *, offset: int = 0, attempt: int | None = None) -> ChunkQueue:
        chunks = self._session.chunks
        queue = ChunkQueue(options, offset=offset, attempt=attempt, on_room=lambda: chunks.subscribe(CHANNEL))
        chunks.attach(CHANNEL, queue)
        return queue

    def send(self, event: str, **data: Any) -> None:
        self._receive({"type": "event", "event": event, "data": data, "room": CHANNEL})

    def requests(self) -> list[dict[str, Any]]:
        """Return the requests that were sent since the last call."""
        return [json.loads(text) for text in iter(self._session.requests.take_message, None)]

    def answer(self, expected: dict[str, Any], *, attempt: int, offset: int) -> None:
        """Answer the only `subscribe` since the last call, which must have these data."""
        (request,) = self.requests()
        assert (request["event"], request["data"]) == ("subscribe", {"channel": CHANNEL, **expected})
        data = {"channel": CHANNEL, "status": "subscribed", "attempt": attempt, "offset": offset}
        self._receive({"type": "response", "event": "subscribe", "data": data, "correlation_id": request["id"]})

    def _receive(self, message: dict[str, Any]) -> None:
        self._session.receive(json.dumps({"id": "1", "timestamp": "2026-01-01T00:00:00Z", **message}).encode())


@pytest.fixture
def server() -> StreamServer:
    return StreamServer()


def items_of(queue: ChunkQueue) -> Iterator[StreamItem]:
    return iter(queue.take, None)


def full_reader(server: StreamServer) -> ChunkQueue:
    """Return a reader whose queue is full with `abcdef` of attempt 1; it has not received `ghi`."""
    queue = server.reader()
    server.answer({"offset": 0}, attempt=1, offset=0)
    server.send("stream.chunk", attempt=1, offset=0, delta="abc")
    server.send("stream.chunk", attempt=1, offset=3, delta="def")
    server.send("stream.chunk", attempt=1, offset=6, delta="ghi")
    return queue


def test_reset_empties_a_full_queue_and_its_chunks_follow(server: StreamServer) -> None:
    queue = full_reader(server)
    server.send("stream.reset", attempt=2)
    server.send("stream.chunk", attempt=2, offset=0, delta="new")
    assert list(items_of(queue)) == [StreamReset(2), Chunk(0, "new", 2)]
    server.send("stream.closed", attempt=2, status="completed", length=3, sha256="s")
    assert queue.end == StreamClosed(2, "completed", 3, "s")
    assert server.requests() == []


def test_answer_with_another_attempt_empties_a_full_queue(server: StreamServer) -> None:
    queue = full_reader(server)
    server.reconnect()
    assert server.requests() == []
    quick = server.reader()
    server.answer({"offset": 0}, attempt=2, offset=0)
    server.send("stream.chunk", attempt=2, offset=0, delta="new")
    assert list(items_of(queue)) == [StreamReset(2), Chunk(0, "new", 2)]
    assert list(items_of(quick)) == [Chunk(0, "new", 2)]


def test_full_queue_continues_from_its_offset_when_it_has_room(server: StreamServer) -> None:
    queue = full_reader(server)
    assert [queue.take(), queue.take()] == [Chunk(0, "abc", 1), Chunk(3, "def", 1)]
    server.answer({"offset": 6, "attempt": 1}, attempt=1, offset=6)
    server.send("stream.chunk", attempt=1, offset=6, delta="ghijkl")
    assert list(items_of(queue)) == [Chunk(6, "ghijkl", 1)]


def test_other_attempt_when_a_full_queue_has_room_is_a_reset(server: StreamServer) -> None:
    queue = full_reader(server)
    assert [queue.take(), queue.take()] == [Chunk(0, "abc", 1), Chunk(3, "def", 1)]
    server.answer({"offset": 6, "attempt": 1}, attempt=2, offset=0)
    server.send("stream.chunk", attempt=2, offset=0, delta="new")
    assert list(items_of(queue)) == [StreamReset(2), Chunk(0, "new", 2)]


def test_chunks_that_wait_are_bounded_in_number(server: StreamServer) -> None:
    queue = server.reader(Options(max_queued_events=2))
    server.answer({"offset": 0}, attempt=1, offset=0)
    for offset, text in enumerate("abc"):
        server.send("stream.chunk", attempt=1, offset=offset, delta=text)
    assert list(items_of(queue)) == [Chunk(0, "a", 1), Chunk(1, "b", 1)]
    server.answer({"offset": 2, "attempt": 1}, attempt=1, offset=2)
    server.send("stream.chunk", attempt=1, offset=2, delta="c")
    assert list(items_of(queue)) == [Chunk(2, "c", 1)]


def test_gap_that_a_full_queue_has_not_taken_is_sent_again(server: StreamServer) -> None:
    queue = full_reader(server)
    server.send("stream.gap", attempt=1, offset=6, end=20)
    assert [queue.take(), queue.take()] == [Chunk(0, "abc", 1), Chunk(3, "def", 1)]
    server.answer({"offset": 6, "attempt": 1}, attempt=1, offset=6)
    server.send("stream.gap", attempt=1, offset=6, end=20)
    server.send("stream.chunk", attempt=1, offset=20, delta="end")
    assert list(items_of(queue)) == [StreamGap(6, 20, 1), Chunk(20, "end", 1)]


def test_end_is_taken_only_by_readers_that_have_what_is_before_it(server: StreamServer) -> None:
    queue, quick = full_reader(server), server.reader(offset=6, attempt=1)
    server.answer({"offset": 6, "attempt": 1}, attempt=1, offset=6)
    server.send("stream.chunk", attempt=1, offset=6, delta="ghi")
    assert [queue.take(), queue.take()] == [Chunk(0, "abc", 1), Chunk(3, "def", 1)]
    # The queue has room, but the server has not answered its `subscribe`.
    closed: dict[str, Any] = {"attempt": 1, "status": "completed", "length": 9, "sha256": "s"}
    server.send("stream.closed", **closed)
    assert quick.end == StreamClosed(**closed)
    assert queue.end is None
    server.answer({"offset": 6, "attempt": 1}, attempt=1, offset=6)
    server.send("stream.chunk", attempt=1, offset=6, delta="ghi")
    server.send("stream.closed", **closed)
    assert list(items_of(queue)) == [Chunk(6, "ghi", 1)]
    assert list(items_of(quick)) == [Chunk(6, "ghi", 1)]
    assert queue.end == StreamClosed(**closed)


def test_reader_behind_the_answer_to_another_one_subscribes_again(server: StreamServer) -> None:
    queue, quick = full_reader(server), server.reader(offset=3, attempt=2)
    server.answer({"offset": 3, "attempt": 2}, attempt=2, offset=3)
    server.send("stream.chunk", attempt=2, offset=3, delta="er")
    server.answer({"offset": 0, "attempt": 2}, attempt=2, offset=0)
    server.send("stream.chunk", attempt=2, offset=0, delta="newer")
    assert list(items_of(queue)) == [StreamReset(2), Chunk(0, "newer", 2)]
    assert list(items_of(quick)) == [Chunk(3, "er", 2)]


def test_ended_reader_takes_nothing_of_a_later_attempt(server: StreamServer) -> None:
    ended = server.reader()
    server.answer({"offset": 0}, attempt=1, offset=0)
    server.send("stream.closed", attempt=1, status="failed", length=0, sha256=None)
    other = server.reader()
    server.answer({"offset": 0}, attempt=1, offset=0)
    server.send("stream.reset", attempt=2)
    assert list(items_of(ended)) == []
    assert ended.end == StreamClosed(1, "failed", 0, None)
    assert list(items_of(other)) == [StreamReset(2)]
