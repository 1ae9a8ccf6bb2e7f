"""The output of a command: keep its beginning and end as the result, and log its lines as they are printed."""

from __future__ import annotations

import codecs
import re
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from orchestration.text import storable

MAX_STREAM_BYTES: Final = 64 * 1024
"""How many bytes of each stream are kept: a quarter from its beginning, and the rest from its end."""

LOG_INTERVAL_SECONDS: Final = 0.5
"""Minimum time between log messages: lines that are printed in between are sent as one message."""

_NOTE_CHARACTERS: Final = 40

_LINE_ENDS: Final = re.compile(r"[\r\n]+")
_PROGRESS: Final = re.compile(r"::progress +(\d+(?:\.\d+)?|\.\d+)(?: +(.*))?\Z")


class HeadTailBuffer:
    """The beginning and the end of a stream; the bytes between them are counted and dropped."""

    def __init__(self, *, max_bytes: int) -> None:
        self.size_bytes = 0
        self._head_bytes = max_bytes // 4
        self._tail_bytes = max_bytes - self._head_bytes
        self._head = bytearray()
        self._tail = bytearray()

    @property
    def is_truncated(self) -> bool:
        """Whether bytes were dropped."""
        return self.size_bytes > self._head_bytes + self._tail_bytes

    def add(self, chunk: bytes) -> None:
        """Append to the stream."""
        self.size_bytes += len(chunk)
        fits = self._head_bytes - len(self._head)
        self._head += chunk[:fits]
        self._tail += chunk[fits:]
        if len(self._tail) > 2 * self._tail_bytes:
            # Do not cut at every chunk: each cut moves all the bytes that are kept.
            del self._tail[: -self._tail_bytes]

    def text(self) -> str:
        """Return what is kept; bytes that are not UTF-8 are replaced."""
        tail = self._tail[-self._tail_bytes :]
        dropped = self.size_bytes - len(self._head) - len(tail)
        gap = f"\n… {dropped} bytes left out …\n".encode() if dropped else b""
        return storable((self._head + gap + tail).decode("utf-8", "replace"))

    def last_line(self) -> str:
        """Return the last line that is not blank; empty if there is none."""
        lines = (line.strip() for line in reversed(self.text().splitlines()))
        return next((line for line in lines if line), "")


class OutputStreamer:
    """Sends the lines of a command to the log as they are printed, and reports its progress.

    A line `::progress 0.4 message` is progress from 0 to 1; every other line is logged.

    Args:
        log: Receives one or more lines as one message.
        report_progress: Receives the progress and its message.
        max_characters: Limit of one message. If lines come faster than they can be sent, the oldest are dropped.
    """

    def __init__(
        self, log: Callable[[str], None], report_progress: Callable[[float, str], None], *, max_characters: int
    ) -> None:
        self._log = log
        self._report_progress = report_progress
        self._max_characters = max(max_characters - _NOTE_CHARACTERS, 1)
        self._decoders: dict[str, codecs.IncrementalDecoder] = {}
        self._partial_lines: dict[str, str] = {}
        self._lines: deque[str] = deque()
        self._characters = 0
        self._dropped_lines = 0
        self._sent_at = 0.0

    def on_output(self, stream: str, chunk: bytes) -> None:
        """Add output of a stream, `stdout` or `stderr`."""
        decoder = self._decoders.setdefault(stream, codecs.getincrementaldecoder("utf-8")("replace"))
        *lines, rest = _LINE_ENDS.split(self._partial_lines.get(stream, "") + decoder.decode(chunk))
        # A line without an end must not grow without limit.
        self._partial_lines[stream] = rest[-self._max_characters :]
        for line in lines:
            self._add_line(line)

    def send_due(self) -> None:
        """Send the pending lines, unless a message was sent a moment ago."""
        if time.monotonic() - self._sent_at >= LOG_INTERVAL_SECONDS:
            self._send_lines()

    def flush(self) -> None:
        """Send all pending lines, including lines without an end."""
        for stream in list(self._partial_lines):
            self._add_line(self._partial_lines.pop(stream))
        self._send_lines()

    def _add_line(self, line: str) -> None:
        if progress := _PROGRESS.match(line):
            self._report_progress(float(progress[1]), progress[2] or "")
        elif line.strip():
            self._lines.append(line[: self._max_characters])
            self._characters += len(self._lines[-1]) + 1
            while self._characters > self._max_characters and len(self._lines) > 1:
                self._characters -= len(self._lines.popleft()) + 1
                self._dropped_lines += 1

    def _send_lines(self) -> None:
        if not self._lines:
            return
        note = f"… {self._dropped_lines} lines left out\n" if self._dropped_lines else ""
        self._log(note + "\n".join(self._lines))
        self._lines.clear()
        self._characters = self._dropped_lines = 0
        self._sent_at = time.monotonic()
