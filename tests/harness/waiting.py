"""Waiting for something to become true, for a bounded time."""

from __future__ import annotations

import time
from collections.abc import Callable

PAUSE_SECONDS = 0.02


def wait_until(
    condition: Callable[[], bool], *, timeout_seconds: float, what: str | Callable[[], str] = "the condition"
) -> None:
    """Return as soon as `condition()` is true.

    Raises:
        TimeoutError: it was not in time; the message says `what` was waited for.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        # Looked at before the condition: a process that was held up meanwhile looks once more.
        is_late = time.monotonic() > deadline
        if condition():
            return
        if is_late:
            named = what if isinstance(what, str) else what()
            raise TimeoutError(f"{named} did not come within {timeout_seconds} s")
        time.sleep(PAUSE_SECONDS)
