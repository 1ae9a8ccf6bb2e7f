"""What we add to daphne, and only to daphne: under any other ASGI server the same application runs without it.

Everything is put in place when `mahavishnu_site.asgi` is imported, so the plain `daphne` command has it too. Daphne's
classes are its own public ones; what lies beneath them is private to Twisted and autobahn, and is looked for first.
`tests/daphne_server/test_install.py` names the versions all of this was proven with.
"""

from __future__ import annotations

import logging
import socket
import sys
from typing import Any

from django.conf import settings

logger = logging.getLogger(__name__)

LISTEN_BACKLOG = 4096
"""Connections that may wait to be accepted when thousands come back at once. The kernel's `somaxconn` may be lower."""


def install() -> None:
    """Make daphne use our protocol classes, if it is daphne that imports this."""
    if "daphne.server" not in sys.modules:
        return
    from daphne.http_protocol import HTTPFactory
    from daphne.ws_protocol import WebSocketFactory
    from twisted.internet import reactor

    from realtime.daphne_server.http import build_channel
    from realtime.daphne_server.listener import balance_accepts
    from realtime.daphne_server.shutdown import GracefulShutdown
    from realtime.daphne_server.transport import missing_features
    from realtime.daphne_server.websocket import MahavishnuProtocol

    missing = missing_features()
    if missing:
        logger.error("Frames take daphne's own way, at a multiple of the cost: did not find %s", ", ".join(missing))
    MahavishnuProtocol.limits = settings.MAHAVISHNU_LIMITS
    MahavishnuProtocol.attaches = not missing
    MahavishnuProtocol.direct = settings.MAHAVISHNU_DIRECT_FRAMES
    WebSocketFactory.protocol = MahavishnuProtocol

    draining = GracefulShutdown(settings.MAHAVISHNU_LIMITS)

    def protocol(factory: HTTPFactory) -> object:
        draining.server = factory.server
        return build_channel()

    HTTPFactory.protocol = protocol
    _log_failures()
    running: Any = reactor
    running.callWhenRunning(draining.install)
    running.callWhenRunning(_lengthen_backlog)
    running.callWhenRunning(balance_accepts)


def _log_failures() -> None:
    """Let Django's log have what Twisted catches and daphne throws away: exceptions in code that it calls."""
    from twisted.logger import (
        FilteringLogObserver,
        LogLevel,
        LogLevelFilterPredicate,
        STDLibLogObserver,
        globalLogPublisher,
    )

    only_failures = LogLevelFilterPredicate(LogLevel.critical)
    globalLogPublisher.addObserver(FilteringLogObserver(STDLibLogObserver("twisted"), [only_failures]))


def _lengthen_backlog() -> None:
    """Daphne's `-p` listens with a backlog of 50; asking again on the same socket changes it."""
    from realtime.daphne_server.shutdown import listening_ports

    for port in listening_ports():
        listening: socket.socket = port.socket
        listening.listen(LISTEN_BACKLOG)
