"""Detect slow consumers: clients that leave their backlog unread.

The events of one transaction may exceed `max_send_queue_bytes` in a room. They arrive faster than any socket accepts
them. The size of the queue right after such a burst does not indicate a slow client. The detector therefore measures
how much the client reads afterwards.

The transports detect a client that reads nothing at all (`send_stall_seconds`); `realtime.consumers` closes both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from realtime.limits import Limits

_MIN_PROGRESS_PART = 8
"""In `max_burst_seconds` a client must read `max_send_queue_bytes` divided by this: by default 256 KiB a second."""


class SendQueue(Protocol):
    """The send queue of one connection."""

    @property
    def queued_bytes(self) -> int:
        """Bytes written that the operating system has not accepted yet."""

    @property
    def sent_bytes(self) -> int:
        """Queued bytes that the operating system has accepted. Only the difference of two values is meaningful."""


class SlowConsumerDetector:
    """Reports a client that leaves too much of its send queue unread.

    Args:
        queue: The send queue to watch.
        limits: The bounds of the queue and of a burst.
        on_slow: Called with the reason when the client does not keep up. It may be called again.
    """

    __slots__ = ("_limits", "_on_slow", "_queue", "_sent_bytes", "_timer")

    def __init__(self, queue: SendQueue, limits: Limits, *, on_slow: Callable[[str], None]) -> None:
        self._queue = queue
        self._limits = limits
        self._on_slow = on_slow
        self._timer: asyncio.TimerHandle | None = None
        self._sent_bytes = 0

    def check(self) -> None:
        """Check the size of the queue. Call this after every write that leaves something queued."""
        queued = self._queue.queued_bytes
        # A send queue limit above the burst limit raises the burst limit.
        burst_limit = max(self._limits.max_burst_bytes, self._limits.max_send_queue_bytes)
        if queued > burst_limit:
            self._on_slow(f"{queued} bytes queued, burst limit {burst_limit}")
        elif queued > self._limits.max_send_queue_bytes and self._timer is None:
            self._schedule_progress_check()

    def stop(self) -> None:
        """Cancel the pending check."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule_progress_check(self) -> None:
        self._sent_bytes = self._queue.sent_bytes
        self._timer = asyncio.get_running_loop().call_later(self._limits.max_burst_seconds, self._check_progress)

    def _check_progress(self) -> None:
        self._timer = None
        queued, limit = self._queue.queued_bytes, self._limits.max_send_queue_bytes
        if queued <= limit:
            return
        if self._queue.sent_bytes - self._sent_bytes < limit // _MIN_PROGRESS_PART:
            self._on_slow(f"{queued} bytes queued, limit {limit}")
        else:
            self._schedule_progress_check()
