"""Checkpoint SQLite's write-ahead log in the background, so that no commit has to do it.

SQLite runs a checkpoint inside the commit that makes the log longer than `wal_autocheckpoint` pages
(https://www.sqlite.org/wal.html#ckpt). With events of 8 KiB, one commit in 120 took 7 ms longer, and every client
received its event 7 ms later. A checkpoint in a server process takes 2 ms, and commits do not wait for it. The next
commit restarts the log and syncs it once, so checkpoints are less frequent while the log does not grow.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from django.db import Error as DatabaseError
from django.db import connection

from realtime.database import in_maintenance_thread

SHORTEST_PAUSE_SECONDS: Final = 0.25
LONGEST_PAUSE_SECONDS: Final = 4.0

WORTHWHILE_PAGES: Final = 250
"""With fewer pages in the log, the pause doubles. A change writes about eight pages."""


async def checkpoint_periodically() -> None:
    """Checkpoint the write-ahead log in a loop. With Postgres, which has none, return at once."""
    pause_seconds = SHORTEST_PAUSE_SECONDS
    pages_before = 0
    while connection.vendor == "sqlite":
        await asyncio.sleep(pause_seconds)
        pages = pages_before
        # The relay already logs database outages. Until the next round, SQLite checkpoints inside a commit.
        with suppress(DatabaseError):
            pages = await in_maintenance_thread(checkpoint)
        pause_seconds = next_pause_seconds(pause_seconds, pages if pages != pages_before else 0)
        pages_before = pages


def next_pause_seconds(pause_seconds: float, pages: int) -> float:
    """Return how long to wait, in seconds, after a checkpoint that found `pages` pages in the log."""
    return SHORTEST_PAUSE_SECONDS if pages >= WORTHWHILE_PAGES else min(pause_seconds * 2, LONGEST_PAUSE_SECONDS)


def checkpoint() -> int:
    """Copy committed pages to the database file, except those that open read transactions need. Block no writer.

    Returns:
        Number of pages in the log. They stay there, and are counted again, until the next write.
    """
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA wal_checkpoint(PASSIVE)")
        _busy, pages, _checkpointed = cursor.fetchone()
    return int(pages)
