"""Waits for a condition, for a limited time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

PAUSE_SECONDS = 0.02

EVENTUALLY_PAUSE_SECONDS = 0.05
"""Some conditions ask other processes, or list connections, which takes 5 ms."""


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
    """Poll a condition in another thread, and return as soon as it is true.

    Raises:
        TimeoutError: if it is not true in time; the message contains `what`.
    """
    deadline = time.monotonic() + within_seconds
    while True:
        is_late = time.monotonic() > deadline
        if await asyncio.to_thread(condition):
            return
        if is_late:
            raise TimeoutError(f"Timed out after {within_seconds} s, waiting for {what}")
        await asyncio.sleep(EVENTUALLY_PAUSE_SECONDS)
