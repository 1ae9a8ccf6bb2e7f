"""Read lines of standard input in batches: one line without delay, or all waiting lines at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

_READ_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the input.

    Attributes:
        number: 1 for the first line.
        text: The line without its line break; None if it exceeded the allowed length.
    """

    number: int
    text: bytes | None


def read_batches(read: Callable[[int], bytes], *, max_line_bytes: int, max_lines: int) -> Iterator[list[Line]]:
    """Yield the available lines in batches, until the end of the input.

    Memory is bounded by `max_line_bytes` plus a fixed amount: a longer line is discarded while it is read.

    Args:
        read: Returns up to the given number of bytes as soon as any are available, like `os.read` of a file descriptor.
            At the end of the input, it returns no bytes.
        max_line_bytes: The allowed length of a line.
        max_lines: The largest size of a batch.
    """
    number = 0
    pending = b""
    is_too_long = False
    at_end = False
    while not at_end:
        chunk = read(_READ_BYTES)
        at_end = not chunk
        *texts, pending = (pending + chunk).split(b"\n")
        if at_end and (pending or is_too_long):
            texts.append(pending)
        lines: list[Line] = []
        for text in texts:
            number += 1
            lines.append(Line(number, None if is_too_long or len(text) > max_line_bytes else text))
            is_too_long = False
        if len(pending) > max_line_bytes:
            pending, is_too_long = b"", True
        for first in range(0, len(lines), max_lines):
            yield lines[first : first + max_lines]
