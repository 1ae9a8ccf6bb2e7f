"""Waits for a condition, for a limited time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

PAUSE_SECONDS = 0.02


def wait_until(
    condition: Callable[[], bool], *, timeout_seconds: float, what: str | Callable[[], str] = "the condition"
) -> None:
    """Return as soon as `condition()` is true.

    Raises:
        TimeoutError: if it is not true in time; the message contains `what`.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        # Read the clock before the condition, so that the condition is checked once more after a delay of this process.
        is_late = time.monotonic() > deadline
        if condition():
            return
        if is_late:
            named = what if isinstance(what, str) else what()
            raise TimeoutError(f"Timed out after {timeout_seconds} s, waiting for {named}")
        time.sleep(PAUSE_SECONDS)


async def eventually(condition: Callable[[], bool], *, within_seconds: float = 60, what: str = "the condition") -> None:
    """Wait in another thread, as `wait_until` does, while the event loop runs."""
    await asyncio.to_thread(wait_until, condition, timeout_seconds=within_seconds, what=what)
