"""More than may be unsent to one reader: borne for as long as the reader takes it at a pace.

One transaction may have more events for a room than `max_send_queue_bytes`, and they arrive faster than any socket takes
them. How much waits right after they were written says nothing of the reader; how much it takes afterwards does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from realtime.limits import Limits

_PACE_PART = 8
"""In `max_burst_seconds` a reader has to take this part of the unsent bytes allowed: 256 KiB a second by default."""


class Backlog(Protocol):
    """What was written to one reader."""

    @property
    def queued_bytes(self) -> int:
        """Bytes that were written and that the operating system has not taken yet."""

    @property
    def taken_bytes(self) -> int:
        """Bytes that it has taken, of those that had to wait. Only the difference of two readings means anything."""


class SlowConsumerDetector:
    """Judges one reader.

    Args:
        on_slow: Called with the reason when the reader does not keep up. It may be called again.
    """

    __slots__ = ("_backlog", "_judging", "_limits", "_on_slow", "_taken_bytes")

    def __init__(self, backlog: Backlog, limits: Limits, *, on_slow: Callable[[str], None]) -> None:
        self._backlog = backlog
        self._limits = limits
        self._on_slow = on_slow
        self._judging: asyncio.TimerHandle | None = None
        self._taken_bytes = 0

    def check(self) -> None:
        """See whether what is unsent has become too much. To be called after every write that leaves something."""
        unsent = self._backlog.queued_bytes
        # Who may always have as much unsent may have it in a burst as well.
        most = max(self._limits.max_burst_bytes, self._limits.max_send_queue_bytes)
        if unsent > most:
            self._on_slow(f"{unsent} bytes unsent, at most {most} allowed in a burst")
        elif unsent > self._limits.max_send_queue_bytes and self._judging is None:
            self._judge_later()

    def end(self) -> None:
        """Judge no more: nothing is to be sent."""
        if self._judging is not None:
            self._judging.cancel()
            self._judging = None

    def _judge_later(self) -> None:
        self._taken_bytes = self._backlog.taken_bytes
        self._judging = asyncio.get_running_loop().call_later(self._limits.max_burst_seconds, self._judge)

    def _judge(self) -> None:
        self._judging = None
        unsent, bound = self._backlog.queued_bytes, self._limits.max_send_queue_bytes
        if unsent <= bound:
            return
        if self._backlog.taken_bytes - self._taken_bytes < bound // _PACE_PART:
            self._on_slow(f"{unsent} bytes unsent, at most {bound} allowed")
        else:
            self._judge_later()
