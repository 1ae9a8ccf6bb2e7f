"""What a command prints: kept within bounds for whoever reads the result, and told as it comes."""

from __future__ import annotations

import codecs
import re
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from orchestration.sdk.context import printable

MAX_STREAM_BYTES: Final = 64 * 1024
"""How much of standard output, and as much of standard error, is kept: a quarter of it from the beginning."""

TELL_INTERVAL_SECONDS: Final = 0.5
"""How often what was printed is told at most: several lines that come together are one message."""

_NOTE_CHARACTERS: Final = 40

_LINE_ENDS: Final = re.compile(r"[\r\n]+")
_PROGRESS: Final = re.compile(r"::progress +(\d+(?:\.\d+)?|\.\d+)(?: +(.*))?\Z")


class HeadTailBuffer:
    """The beginning and the end of what was printed; what is between them is counted and let go."""

    def __init__(self, *, max_bytes: int) -> None:
        self.size_bytes = 0
        self._head_bytes = max_bytes // 4
        self._tail_bytes = max_bytes - self._head_bytes
        self._head = bytearray()
        self._tail = bytearray()

    @property
    def is_cut(self) -> bool:
        return self.size_bytes > self._head_bytes + self._tail_bytes

    def add(self, chunk: bytes) -> None:
        self.size_bytes += len(chunk)
        fits = self._head_bytes - len(self._head)
        self._head += chunk[:fits]
        self._tail += chunk[fits:]
        if len(self._tail) > 2 * self._tail_bytes:
            # Not at every chunk: to cut moves all that stays.
            del self._tail[: -self._tail_bytes]

    def text(self) -> str:
        """Return what was kept; bytes that are not UTF-8 are replaced."""
        tail = self._tail[-self._tail_bytes :]
        left_out = self.size_bytes - len(self._head) - len(tail)
        gap = f"\n… {left_out} bytes left out …\n".encode() if left_out else b""
        return printable((self._head + gap + tail).decode("utf-8", "replace"))

    def last_line(self) -> str:
        """Return the last line that is not blank; empty if there is none."""
        lines = (line.strip() for line in reversed(self.text().splitlines()))
        return next((line for line in lines if line), "")


class OutputStreamer:
    """Tells the lines of a command as it prints them, and its progress.

    A line `::progress 0.4 words` is progress from 0 to 1; every other one is for the log.

    Args:
        tell: Takes some lines as one message.
        tell_progress: Takes how far the command says it is, and its words.
        max_characters: Of one message; where lines come faster than they can be told, the last ones are.
    """

    def __init__(
        self, tell: Callable[[str], None], tell_progress: Callable[[float, str], None], *, max_characters: int
    ) -> None:
        self._tell = tell
        self._tell_progress = tell_progress
        self._max_characters = max(max_characters - _NOTE_CHARACTERS, 1)
        self._decoders: dict[str, codecs.IncrementalDecoder] = {}
        self._unfinished: dict[str, str] = {}
        self._lines: deque[str] = deque()
        self._characters = 0
        self._left_out = 0
        self._told_at = 0.0

    def hear(self, stream: str, chunk: bytes) -> None:
        """Take what was printed on a stream, by its name."""
        decoder = self._decoders.setdefault(stream, codecs.getincrementaldecoder("utf-8")("replace"))
        *lines, rest = _LINE_ENDS.split(self._unfinished.get(stream, "") + decoder.decode(chunk))
        # A line without end must not be kept whole.
        self._unfinished[stream] = rest[-self._max_characters :]
        for line in lines:
            self._take(line)

    def tell_due(self) -> None:
        """Tell what has not been told, unless something was a moment ago."""
        if time.monotonic() - self._told_at >= TELL_INTERVAL_SECONDS:
            self._tell_lines()

    def tell_rest(self) -> None:
        """Tell all that is left, with lines that were never ended."""
        for stream in list(self._unfinished):
            self._take(self._unfinished.pop(stream))
        self._tell_lines()

    def _take(self, line: str) -> None:
        if progress := _PROGRESS.match(line):
            self._tell_progress(float(progress[1]), progress[2] or "")
        elif line.strip():
            self._lines.append(line[: self._max_characters])
            self._characters += len(self._lines[-1]) + 1
            while self._characters > self._max_characters and len(self._lines) > 1:
                self._characters -= len(self._lines.popleft()) + 1
                self._left_out += 1

    def _tell_lines(self) -> None:
        if not self._lines:
            return
        note = f"… {self._left_out} lines left out\n" if self._left_out else ""
        self._tell(note + "\n".join(self._lines))
        self._lines.clear()
        self._characters = self._left_out = 0
        self._told_at = time.monotonic()
