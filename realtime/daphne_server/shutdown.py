"""Graceful shutdown of a daphne process: close the listening socket, drain all connections, exit.

The first SIGTERM or SIGINT starts it; a second one exits at once. The listening socket is closed first. A load balancer
then detects a refused connection at once, not at its next health check. Other processes on the same socket accept new
clients. Clients with an open HTTP connection read `draining` from `/health`.
"""

from __future__ import annotations

import _thread
import asyncio
import logging
import os
import signal
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

from twisted.internet import reactor as installed_reactor
from twisted.internet.interfaces import IListeningPort

from realtime.connection.registry import connection_registry
from realtime.database import in_maintenance_thread
from realtime.eventlog.epoch import record_clean_stop
from realtime.limits import Limits

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.02
"""How often to check whether all connections have ended."""

_CLIENTS_PART = 0.8
"""The part of `drain_timeout_seconds` in which clients may disconnect. In the rest, the process exits."""

_SIGNAL_EXIT_CODE_BASE = 128
"""A process killed by a signal exits with this plus the signal's number, by the convention of shells."""

reactor: Any = installed_reactor


class GracefulShutdown:
    """The graceful shutdown of one daphne process.

    Attributes:
        server: Daphne's server object, which lists the open connections; None before the first connection.
    """

    def __init__(self, limits: Limits) -> None:
        self.server: Any = None
        self._limits = limits
        self._is_started = False

    def install(self) -> None:
        """Replace Twisted's signal handlers, which would exit without notifying the clients."""
        for number, twisted_handler in ((signal.SIGTERM, reactor.sigTerm), (signal.SIGINT, reactor.sigInt)):
            # In a thread of another program, daphne has no signal handlers. Leave the program's handlers unchanged.
            if signal.getsignal(number) == twisted_handler:
                signal.signal(number, self._handle_signal)

    def _handle_signal(self, number: int, frame: FrameType | None) -> None:
        if self._is_started:
            logging.shutdown()
            os._exit(_SIGNAL_EXIT_CODE_BASE + number)
        self._is_started = True
        # Use a separate thread: the loop may be blocked, and a thread that reads the database delays interpreter exit.
        # Not `threading.Timer`: its start takes a lock that the interrupted code may hold.
        _thread.start_new_thread(_exit_after, (self._limits.drain_timeout_seconds,))
        reactor.callFromThread(self._start, signal.Signals(number).name)

    def _start(self, signal_name: str) -> None:
        logger.info("%s received; draining %d connections", signal_name, len(connection_registry))
        self._task = asyncio.ensure_future(self._drain())

    async def _drain(self) -> None:
        try:
            for port in listening_ports():
                port.stopListening()
            connection_registry.drain(window_seconds=self._limits.reconnect_window_seconds)
            await self._wait_for_connections()
            await asyncio.sleep(_POLL_SECONDS)  # The last HTTP response may still be on its way to the socket.
            self._complete_daphne_records()
            await in_maintenance_thread(record_clean_stop)
        except Exception:
            # Exit anyway: after a bug in this code, the operator must not need a second signal.
            logger.exception("Graceful shutdown failed; exiting without waiting for clients")
        finally:
            reactor.stop()

    async def _wait_for_connections(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._limits.drain_timeout_seconds * _CLIENTS_PART
        while remaining := list(self._active_protocols()):
            if loop.time() >= deadline:
                logger.warning("%d clients did not disconnect in time; dropping them", len(remaining))
                return
            await asyncio.sleep(_POLL_SECONDS)

    def _active_protocols(self) -> Iterator[Any]:
        """Yield every WebSocket, and every HTTP request being answered."""
        if self.server is not None:
            for protocol, details in self.server.connections.items():
                application = details.get("application_instance")
                if "disconnected" not in details and application is not None and not application.done():
                    yield protocol

    def _complete_daphne_records(self) -> None:
        """Set this task for each connection that has no application: daphne's shutdown fails without one."""
        if self.server is not None:
            for details in self.server.connections.values():
                details.setdefault("application_instance", self._task)


def listening_ports() -> list[Any]:
    """Return Twisted's ports that accept connections in this process."""
    return [reader for reader in reactor.getReaders() if IListeningPort.providedBy(reader)]


def http_factory(port: Any) -> Any:
    """Return daphne's factory, without the factories that TLS and limits wrap around it."""
    factory = port.factory
    while hasattr(factory, "wrappedFactory"):
        factory = factory.wrappedFactory
    return factory


def _exit_after(timeout_seconds: float) -> None:
    time.sleep(timeout_seconds)
    logger.error("Graceful shutdown timed out; exiting now")
    logging.shutdown()
    os._exit(1)
