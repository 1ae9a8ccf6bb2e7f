"""Who may read for replays next: first reads of subscriptions and lists, and later ones, in alternation, each in order.

Later reads belong to long replays and lists. They take turns in half of the time, so that they leave the rest to the
delivery of events. Many subscriptions do not stop a replay, because the reads alternate.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

MAX_REST_SECONDS: Final = 0.1
"""After a later read, its turn has no other one for the time that the read took, but no longer than this."""


class ReplayTurns:
    """The turns of one event loop.

    Args:
        turns: How many reads may have a turn at the same time.
    """

    def __init__(self, turns: int) -> None:
        self._free = self._free_for_later = turns
        self._first: deque[asyncio.Future[None]] = deque()
        self._later: deque[asyncio.Future[None]] = deque()
        self._was_first = False

    @asynccontextmanager
    async def turn(self, *, is_first: bool) -> AsyncIterator[None]:
        """Wait for a turn, and have it during the `async with` block."""
        loop = asyncio.get_running_loop()
        given = loop.create_future()
        (self._first if is_first else self._later).append(given)
        self._give()
        began = None
        try:
            await given
            began = loop.time()
            yield
        finally:
            # If the wait was cancelled, no turn was given: `_give` drops it.
            if not given.cancelled():
                self._end(is_first=is_first, seconds=0.0 if began is None else loop.time() - began)

    def _give(self) -> None:
        while self._free:
            first, later = _next(self._first), _next(self._later) if self._free_for_later else None
            if first is None and later is None:
                return
            is_first = later is None or (first is not None and not self._was_first)
            self._was_first = is_first
            self._free -= 1
            if not is_first:
                self._free_for_later -= 1
            (self._first if is_first else self._later).popleft().set_result(None)

    def _end(self, *, is_first: bool, seconds: float) -> None:
        self._free += 1
        if not is_first:
            asyncio.get_running_loop().call_later(min(seconds, MAX_REST_SECONDS), self._end_rest)
        self._give()

    def _end_rest(self) -> None:
        self._free_for_later += 1
        self._give()


def _next(waiting: deque[asyncio.Future[None]]) -> asyncio.Future[None] | None:
    while waiting and waiting[0].cancelled():
        waiting.popleft()
    return waiting[0] if waiting else None
