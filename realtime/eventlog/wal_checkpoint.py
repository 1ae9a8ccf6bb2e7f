"""SQLite's write-ahead log is taken into its file beside the commits, and not within one of them.

By itself SQLite does so in the commit that makes the log longer than `wal_autocheckpoint` pages
(https://www.sqlite.org/wal.html#ckpt): with events of 8 KiB, one commit in 120 took 7 ms longer, and everybody had its
event as much later. A server process does it in 2 ms, and no commit waits for that. The next commit then begins the log
anew and syncs it once, so it is done only as often as there is something to take.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from django.db import Error as DatabaseError
from django.db import connection

from realtime.database import in_database_thread

SHORTEST_PAUSE_SECONDS: Final = 0.25
LONGEST_PAUSE_SECONDS: Final = 4.0

WORTHWHILE_PAGES: Final = 250
"""With fewer of them in the log, the next look is twice as far away. A change writes about eight."""


async def checkpoint_periodically() -> None:
    """Keep the write-ahead log short; with a database that has none, return at once."""
    pause_seconds = SHORTEST_PAUSE_SECONDS
    pages_before = 0
    while connection.vendor == "sqlite":
        await asyncio.sleep(pause_seconds)
        pages = pages_before
        # A database that does not answer is the relay's to tell of. SQLite takes up the work in a commit then.
        with suppress(DatabaseError):
            pages = await in_database_thread(checkpoint)
        pause_seconds = next_pause_seconds(pause_seconds, pages if pages != pages_before else 0)
        pages_before = pages


def next_pause_seconds(pause_seconds: float, pages: int) -> float:
    """How long to wait after a checkpoint that found so many pages in the log."""
    return SHORTEST_PAUSE_SECONDS if pages >= WORTHWHILE_PAGES else min(pause_seconds * 2, LONGEST_PAUSE_SECONDS)


def checkpoint() -> int:
    """Take what is committed, and what no reader still needs as it was, into the file; nobody waits meanwhile.

    Returns how many pages were in the log. They stay there, and are counted again, until somebody writes.
    """
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA wal_checkpoint(PASSIVE)")
        _busy, pages, _taken = cursor.fetchone()
    return int(pages)
