"""WebSocket frames: messages joined into parts that are written at once. No server, no I/O."""

from __future__ import annotations

import pytest

from realtime.protocol.frames import Frames, build_frames

PART_BYTES = 64 * 1024


def test_frames_hold_the_messages_in_both_forms_and_their_size() -> None:
    frames = Frames(["é".encode(), b"", b"two"])
    assert frames.data == b"\x81\x02\xc3\xa9" + b"\x81\x00" + b"\x81\x03two"
    assert frames.texts == ["é", "", "two"]
    assert frames.size_bytes == 5


def test_frames_are_built_once_for_all_connections() -> None:
    frames = Frames([b"one", b"two"])
    assert frames.data is frames.data
    assert frames.texts is frames.texts


@pytest.mark.parametrize(
    ("sizes", "parts"),
    [
        ([1], [[1]]),
        ([1, 2, 3], [[1, 2, 3]]),
        ([PART_BYTES - 1, 1], [[PART_BYTES - 1, 1]]),
        ([PART_BYTES - 1, 2], [[PART_BYTES - 1], [2]]),
        ([PART_BYTES, 1], [[PART_BYTES], [1]]),
        ([1, PART_BYTES, 1], [[1], [PART_BYTES], [1]]),
        ([PART_BYTES + 1, 1, 1], [[PART_BYTES + 1], [1, 1]]),
        ([1, PART_BYTES * 3, 2, 3], [[1], [PART_BYTES * 3], [2, 3]]),
        ([PART_BYTES // 2] * 5, [[PART_BYTES // 2] * 2, [PART_BYTES // 2] * 2, [PART_BYTES // 2]]),
    ],
    ids=str,
)
def test_build_frames_splits_messages_into_parts_of_64_kib(sizes: list[int], parts: list[list[int]]) -> None:
    messages = [b"%d" % (number % 10) * size for number, size in enumerate(sizes)]
    built = build_frames(messages)
    assert [[len(message) for message in frames.messages] for frames in built] == parts
    assert [message for frames in built for message in frames.messages] == messages
