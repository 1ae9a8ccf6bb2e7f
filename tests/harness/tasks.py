"""End tasks of the event loop of a test."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

_CANCEL_AGAIN_SECONDS = 0.2


async def end_tasks(tasks: Iterable[asyncio.Task[object]]) -> None:
    """Cancel tasks, and wait until they have ended.

    A task that listens to the channel layer leaves its channel when it is cancelled. It waits for an answer that the
    reader of the layer passes on, and that may be cancelled too: it then takes another cancellation to end the wait.
    """
    running = {task for task in tasks if not task.done()}
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=_CANCEL_AGAIN_SECONDS)
