"""The bound of a queue, in items and in bytes."""

from __future__ import annotations

from mahavishnu_client.options import Options


class QueueBound:
    """What waits in the queue of one iterator, and how much may.

    Args:
        options: `max_queued_events` and `max_queued_bytes`.
    """

    __slots__ = ("_bytes", "_count", "_max_bytes", "_max_count")

    def __init__(self, options: Options) -> None:
        self._max_count, self._max_bytes = options.max_queued_events, options.max_queued_bytes
        self._count = self._bytes = 0

    @property
    def is_half_free(self) -> bool:
        """Whether a queue that was full may take items again."""
        return self._count <= self._max_count // 2 and self._bytes <= self._max_bytes // 2

    def admits(self, size_bytes: int) -> bool:
        """Return whether there is room for an item of this size. One item may be larger than the bound."""
        count = self._count
        return count < self._max_count and (not count or self._bytes + size_bytes <= self._max_bytes)

    def add(self, size_bytes: int) -> None:
        """Count an item that was added."""
        self._count += 1
        self._bytes += size_bytes

    def remove(self, size_bytes: int) -> None:
        """Count an item of this size as taken."""
        self._count -= 1
        self._bytes -= size_bytes

    def clear(self) -> None:
        """Count every item as taken."""
        self._count = self._bytes = 0
