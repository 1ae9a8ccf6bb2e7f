"""Tests of the last chunks of a followed stream, without I/O."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

from orchestration.stream_keys import MAX_CHUNK_BYTES
from realtime.queries.stream_states import StageStreams, StoredStream
from realtime.streams.chunk_store import Entry
from realtime.streams.followed_stream import MAX_TAIL_BYTES, FollowedStream


def of_attempt(attempt: int) -> StageStreams:
    return StageStreams(1, attempt, datetime(2026, 2, 10, 20, attempt, tzinfo=UTC), "running", {"answer": "text"})


def stream_of(*chunks: tuple[int, str]) -> FollowedStream:
    stream = FollowedStream("stream:wf/write/answer", "answer", of_attempt(1), installation="here")
    stream.set_last_id(b"0-0")
    add(stream, *chunks)
    return stream


def add(stream: FollowedStream, *chunks: tuple[int, str]) -> None:
    stream.add([Entry(b"1-1", offset, text.encode()) for offset, text in chunks])


def next_chunk(stream: FollowedStream, offset: int) -> tuple[str, int] | None:
    """Return the text of the next message from `offset` on, and where it ends."""
    found = stream.frames_from(offset)
    if found is None:
        return None
    frames, end = found
    (message,) = frames.messages
    data = json.loads(message)["data"]
    assert data["offset"] == offset
    return data["delta"], end


def test_reader_is_sent_what_follows_its_offset() -> None:
    stream = stream_of((0, "ab"), (2, "cd"), (4, "ef"))
    found = [next_chunk(stream, offset) for offset in (0, 1, 2, 5)]
    assert found == [("abcdef", 6), ("bcdef", 6), ("cdef", 6), ("f", 6)]
    assert next_chunk(stream, 6) is None
    add(stream, (6, "gh"))
    assert next_chunk(stream, 6) == ("gh", 8)


def test_message_ends_at_the_limit_of_a_chunk() -> None:
    half = MAX_CHUNK_BYTES // 2
    stream = stream_of((0, "a" * half), (half, "b" * half), (2 * half, "c"))
    assert next_chunk(stream, 0) == ("a" * half + "b" * half, 2 * half)
    assert next_chunk(stream, 2 * half) == ("c", 2 * half + 1)


def test_chunk_that_was_sent_again_is_delivered_once() -> None:
    stream = stream_of((0, "abcd"), (2, "cdef"), (0, "abc"))
    assert next_chunk(stream, 0) == ("abcdef", 6)


def test_chunks_before_a_gap_are_forgotten() -> None:
    stream = stream_of((0, "ab"), (9, "yz"))
    assert (stream.tail_start, next_chunk(stream, 0), next_chunk(stream, 9)) == (9, None, ("yz", 11))


def test_last_chunks_are_bounded() -> None:
    size_bytes = 1000
    stream = stream_of(*((number * size_bytes, "x" * size_bytes) for number in range(2 * MAX_TAIL_BYTES // size_bytes)))
    start = stream.tail_start
    assert start is not None
    end = 2 * MAX_TAIL_BYTES // size_bytes * size_bytes
    assert MAX_TAIL_BYTES - size_bytes < end - start <= MAX_TAIL_BYTES


def test_new_attempt_begins_without_chunks_under_other_keys() -> None:
    stream = stream_of((0, "ab"))
    before = stream.keys
    stream.set_stage(of_attempt(2))
    assert (stream.tail_start, stream.must_look_up, stream.keys == before) == (None, True, False)


def stored(attempt: int, *, newest: int, opened: dict[str, str]) -> StageStreams:
    """Return a stage whose stream was stored by an attempt."""
    content = {"answer": StoredStream(attempt, "bytes", 2, 2, "")}
    return replace(of_attempt(newest), content_types=opened, stored=content)


def test_stored_stream_of_an_earlier_attempt_remains_until_a_later_one_opens_it() -> None:
    stream = stream_of((0, "ab"))
    stream.set_stage(stored(1, newest=2, opened={"other": "text"}))
    assert (stream.attempt, stream.keys, stream.content_type) == (1, None, "bytes")
    assert stream.stored == StoredStream(1, "bytes", 2, 2, "")


def test_stored_stream_is_void_when_a_later_attempt_opens_it() -> None:
    stream = stream_of((0, "ab"))
    stream.set_stage(stored(1, newest=2, opened={"answer": "text"}))
    assert (stream.attempt, stream.stored, stream.content_type) == (2, None, "text")
    assert stream.keys is not None
