"""The background parts of one server process: the relay, log pruning, SQLite's WAL checkpoints, and checks of access.

They start with the first connection or health request, because not every ASGI server signals the start of an
application (daphne does not).
"""

from __future__ import annotations

import asyncio
import logging
import time

from django.conf import settings

from realtime.auth.revocation import prune_revocations, read_revocations
from realtime.broadcast.relay import Relay
from realtime.connection.access_checks import check_access_periodically
from realtime.database import in_database_thread, in_maintenance_thread
from realtime.event_loop import PerLoop
from realtime.eventlog.position import current_position
from realtime.eventlog.retention import LogPruner, Retention
from realtime.eventlog.wal_checkpoint import checkpoint_periodically
from realtime.limits import Limits
from realtime.queries.replay_reads import ReplayReads
from realtime.queries.status import StatusQueries
from realtime.stored_answers import prune_stored_answers
from realtime.streams.hub import StreamHub

logger = logging.getLogger(__name__)


class _ServerProcess:
    """The background parts of one event loop: of one server process, but tests may run several loops in a process."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.relay: Relay | None = None
        self.pruning: asyncio.Task[None] | None = None
        self.checkpointing: asyncio.Task[None] | None = None
        self.access_checks: asyncio.Task[None] | None = None
        self.status_queries = StatusQueries(settings.MAHAVISHNU_LIMITS)
        self.replay_reads = ReplayReads(settings.MAHAVISHNU_LIMITS)
        self.stream_hub = StreamHub(settings.MAHAVISHNU_LIMITS)
        self.has_log = False


_processes: PerLoop[_ServerProcess] = PerLoop()


def _current_process() -> _ServerProcess:
    return _processes.get(_ServerProcess)


def status_queries() -> StatusQueries:
    """Return the status queries of this process."""
    return _current_process().status_queries


def replay_reads() -> ReplayReads:
    """Return the queue of the replays, snapshots and lists of this process."""
    return _current_process().replay_reads


def stream_hub() -> StreamHub:
    """Return the streams of chunks that clients of this process read."""
    return _current_process().stream_hub


async def ensure_log() -> None:
    """Create the log of a new database, which reads cannot do. A process with a relay has done so.

    Raises:
        django.db.Error: if the database is unavailable.
    """
    process = _current_process()
    if process.relay is None and not process.has_log:
        await in_database_thread(current_position)
        process.has_log = True


async def ensure_relay() -> Relay:
    """Return the relay of this process. Start it and the other background parts if necessary.

    Raises:
        django.db.Error: if the relay must be started and the database is unavailable.
    """
    process = _current_process()
    if process.relay is not None:
        return process.relay
    async with process.lock:
        if process.relay is None:
            limits: Limits = settings.MAHAVISHNU_LIMITS
            relay = Relay(limits)
            await relay.start()
            await read_revocations()
            process.relay = relay
            process.access_checks = asyncio.create_task(check_access_periodically())
            process.pruning = asyncio.create_task(_prune_periodically(limits))
            process.checkpointing = asyncio.create_task(checkpoint_periodically())
    return process.relay


def relay_if_running() -> Relay | None:
    """Return the relay of this process; None if it has not been started."""
    return _current_process().relay


async def _prune_periodically(limits: Limits) -> None:
    pruner = LogPruner(Retention.from_limits(limits))
    while True:
        await asyncio.sleep(limits.log_prune_interval_seconds)
        try:
            pruned = 0
            while batch := await in_maintenance_thread(pruner.prune, now=time.monotonic()):
                pruned += batch
        except Exception as error:
            logger.warning("Pruning the event log failed (%r); the next run retries", error)
        else:
            if pruned:
                logger.info("Pruned %d events from the event log", pruned)
        try:
            await in_maintenance_thread(prune_revocations)
            while await in_maintenance_thread(prune_stored_answers):
                pass
        except Exception as error:
            logger.warning("Pruning revocations and stored answers failed (%r); the next run retries", error)
