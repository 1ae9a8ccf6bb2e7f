"""How a daphne process stops: it takes nothing new, tells every client when to come back, and ends when all have left.

The first SIGTERM or SIGINT begins it, the second ends the process at once. The listening socket is closed first: to a
load balancer a refused connection says at once what a status would say at its next check, and where several processes
listen on one socket the others go on. Who still has an HTTP connection reads `draining` from `/health`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from twisted.internet import reactor as installed_reactor
from twisted.internet.interfaces import IListeningPort

from realtime.connection.registry import connection_registry
from realtime.limits import Limits

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.02
"""How often it is looked whether all have left."""

_PART_FOR_LEAVING = 0.8
"""How much of the time for draining the clients may take. The process has the rest."""

_KILLED_BY = 128
"""What a shell adds to the number of the signal that ended a process."""

reactor: Any = installed_reactor


class GracefulShutdown:
    """The end of one daphne process.

    Attributes:
        server: Daphne's own server object, from the first connection on; it knows who is connected.
    """

    def __init__(self, limits: Limits) -> None:
        self.server: Any = None
        self._limits = limits
        self._has_begun = False

    def install(self) -> None:
        """Take the signals over from Twisted, which would end the process without a word to its clients."""
        for number, twisted_handler in ((signal.SIGTERM, reactor.sigTerm), (signal.SIGINT, reactor.sigInt)):
            # Daphne may run without signal handlers, in a thread of another program: then they are not ours to take.
            if signal.getsignal(number) == twisted_handler:
                signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._has_begun:
            logging.shutdown()
            os._exit(_KILLED_BY + number)
        self._has_begun = True
        # A thread of its own: the loop may be blocked, and a thread that reads the database holds up the interpreter.
        last_resort = threading.Timer(self._limits.drain_timeout_seconds, _exit_on_timeout)
        last_resort.daemon = True
        last_resort.start()
        reactor.callFromThread(self._begin, signal.Signals(number).name)

    def _begin(self, signal_name: str) -> None:
        logger.info("%s: draining %d connections", signal_name, len(connection_registry))
        self._task = asyncio.ensure_future(self._drain())

    async def _drain(self) -> None:
        try:
            for port in listening_ports():
                port.stopListening()
            connection_registry.drain(window_seconds=self._limits.reconnect_window_seconds)
            await self._wait_for_connections()
            await asyncio.sleep(_LOOK_SECONDS)  # The last answer over HTTP may still be on its way to the socket.
            self._complete_daphne_records()
        except Exception:
            # The process ends all the same: a second signal would not be an answer to our own fault.
            logger.exception("Draining failed")
        finally:
            reactor.stop()

    async def _wait_for_connections(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._limits.drain_timeout_seconds * _PART_FOR_LEAVING
        while left := list(self._present()):
            if loop.time() >= deadline:
                logger.warning("Draining: %d clients did not leave in time", len(left))
                return
            await asyncio.sleep(_LOOK_SECONDS)

    def _present(self) -> Iterator[Any]:
        """Whoever is being served: every WebSocket, and every HTTP request that is being answered."""
        if self.server is not None:
            for protocol, details in self.server.connections.items():
                application = details.get("application_instance")
                if "disconnected" not in details and application is not None and not application.done():
                    yield protocol

    def _complete_daphne_records(self) -> None:
        """Daphne's own end of its applications fails on a connection that has none: this task is as good, and over."""
        if self.server is not None:
            for details in self.server.connections.values():
                details.setdefault("application_instance", self._task)


def listening_ports() -> list[Any]:
    """Twisted's ports that accept connections in this process."""
    return [reader for reader in reactor.getReaders() if IListeningPort.providedBy(reader)]


def _exit_on_timeout() -> None:
    logger.error("The process did not end in time, and is ended where it is")
    logging.shutdown()
    os._exit(1)
