"""SQLite's write-ahead log is taken into its file beside the commits, and not within one of them.

By itself SQLite does so in the commit that makes the log longer than `wal_autocheckpoint` pages
(https://www.sqlite.org/wal.html#ckpt): with events of 8 KiB, one commit in 120 took 7 ms longer, and everybody had its
event as much later. Done four times a second by a server process it takes 2 ms, and no commit waits for it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from django.db import Error as DatabaseError
from django.db import connection

from realtime.database import in_database_thread

INTERVAL_SECONDS: Final = 0.25


async def checkpoint_for_ever() -> None:
    """Keep the write-ahead log short; with a database that has none, return at once."""
    while connection.vendor == "sqlite":
        await asyncio.sleep(INTERVAL_SECONDS)
        # A database that does not answer is the relay's to tell of. SQLite takes up the work in a commit then.
        with suppress(DatabaseError):
            await in_database_thread(checkpoint)


def checkpoint() -> None:
    """Take what is committed, and what no reader still needs as it was, into the file. Nobody waits meanwhile."""
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA wal_checkpoint(PASSIVE)")
