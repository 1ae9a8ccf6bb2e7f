"""Numbers on the command line, and lines of standard input in pieces of any size."""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.management.arguments import number, whole_number
from realtime.management.stdin_lines import Line, read_batches

MAX_LINE_BYTES = 6
MAX_LINES = 3


def reader_of(pieces: Iterable[bytes]) -> Callable[[int], bytes]:
    """Return a read function that returns one piece per call, and then the end of the input."""
    remaining = iter(pieces)
    return lambda size: next(remaining, b"")


@given(st.lists(st.text(alphabet="ab\n", min_size=1, max_size=20).map(str.encode)))
def test_read_batches_yields_numbered_lines_from_any_pieces(pieces: list[bytes]) -> None:
    batches = list(read_batches(reader_of(pieces), max_line_bytes=MAX_LINE_BYTES, max_lines=MAX_LINES))
    texts = b"".join(pieces).split(b"\n")
    if not texts[-1]:
        texts.pop()  # The last line ended with a line break.
    assert [line for batch in batches for line in batch] == [
        Line(number, text if len(text) <= MAX_LINE_BYTES else None) for number, text in enumerate(texts, start=1)
    ]
    assert all(1 <= len(batch) <= MAX_LINES for batch in batches)


def test_read_batches_yields_a_line_before_reading_more() -> None:
    reads: list[bytes] = []

    def read(size: int) -> bytes:
        reads.append(b"one\ntw" if not reads else b"o\n")
        return reads[-1]

    batches = read_batches(read, max_line_bytes=MAX_LINE_BYTES, max_lines=MAX_LINES)
    assert (next(batches), len(reads)) == ([Line(1, b"one")], 1)
    assert (next(batches), len(reads)) == ([Line(2, b"two")], 2)


def test_read_batches_discards_a_line_that_is_too_long() -> None:
    sizes: list[int] = []

    def read(size: int) -> bytes:
        sizes.append(size)
        return b"x" * size if len(sizes) < 200 else b""

    (batch,) = read_batches(read, max_line_bytes=MAX_LINE_BYTES, max_lines=MAX_LINES)
    assert (batch, sum(sizes) > 10_000_000) == ([Line(1, None)], True)


WHOLE = whole_number(minimum=1, maximum=10)
ANY = number(minimum=0.5, maximum=10)


@pytest.mark.parametrize(
    ("parse", "text", "value"), [(WHOLE, "1", 1), (WHOLE, "10", 10), (ANY, "0.5", 0.5), (ANY, "1e1", 10.0)]
)
def test_number_within_bounds_is_accepted(parse: Callable[[str], float], text: str, value: float) -> None:
    assert parse(text) == value


@pytest.mark.parametrize("text", ["0", "11", "-1", "1.5", "1_0", "x", "", "9" * 30])
def test_invalid_whole_number_is_rejected(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match=r"expected a whole number from 1 to 10$"):
        WHOLE(text)


@pytest.mark.parametrize("text", ["0.4", "10.1", "nan", "inf", "x", ""])
def test_invalid_number_is_rejected(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match=r"expected a number from 0\.5 to 10$"):
        ANY(text)
