"""What one server process runs beside its connections: the relay, the pruning of the log, and SQLite's checkpoints.

ASGI servers differ in telling an application that they start (daphne does not), so all of this starts with the first
connection or health request.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from weakref import WeakKeyDictionary

from django.conf import settings

from realtime.broadcast.relay import Relay
from realtime.database import in_database_thread
from realtime.eventlog.retention import Retention, prune_events
from realtime.eventlog.wal_checkpoint import checkpoint_periodically
from realtime.limits import Limits
from realtime.protocol.messages import utc_now
from realtime.queries.status import StatusQueries

logger = logging.getLogger(__name__)


class _Process:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.relay: Relay | None = None
        self.pruning: asyncio.Task[None] | None = None
        self.checkpointing: asyncio.Task[None] | None = None
        self.statuses = StatusQueries()


_processes: WeakKeyDictionary[asyncio.AbstractEventLoop, _Process] = WeakKeyDictionary()


def _here() -> _Process:
    loop = asyncio.get_running_loop()
    process = _processes.get(loop)
    if process is None:
        process = _processes[loop] = _Process()
    return process


def running_statuses() -> StatusQueries:
    """The status queries of this process."""
    return _here().statuses


async def running_relay() -> Relay:
    """The relay of this process (to be exact: of this event loop), started if need be.

    Raises:
        django.db.Error: if it has to be started and the database does not answer.
    """
    process = _here()
    if process.relay is not None:
        return process.relay
    async with process.lock:
        if process.relay is None:
            limits: Limits = settings.MAHAVISHNU_LIMITS
            relay = Relay(limits)
            await relay.start()
            process.relay = relay
            process.pruning = asyncio.create_task(_prune_for_ever(limits))
            process.checkpointing = asyncio.create_task(checkpoint_periodically())
    return process.relay


def relay_if_running() -> Relay | None:
    """The relay of this process, if something has started it."""
    return _here().relay


def retention(limits: Limits) -> Retention:
    """What `limits` say of the log."""
    return Retention(
        max_events=limits.max_log_events,
        max_age=timedelta(seconds=limits.max_log_age_seconds),
        min_age=timedelta(seconds=limits.min_log_age_seconds),
    )


async def _prune_for_ever(limits: Limits) -> None:
    while True:
        await asyncio.sleep(limits.log_prune_interval_seconds)
        try:
            pruned = await in_database_thread(prune_events, retention(limits), at=utc_now())
        except Exception as error:
            # Any failure of the database: the next round finds the same events.
            logger.warning("The event log could not be pruned (%r)", error)
        else:
            if pruned:
                logger.info("Pruned %d events from the log", pruned)
