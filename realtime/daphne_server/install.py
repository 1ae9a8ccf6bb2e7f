"""Install our protocol classes into daphne. Any other ASGI server runs the same application without them.

This happens when `mahavishnu_site.asgi` is imported, so the plain `daphne` command uses them too. A server that others
can reach, and that asks for no credentials, is refused here. Daphne's classes are
public. Our classes use private parts of Twisted and autobahn, so the presence of these parts is checked first.
`tests/daphne_server/test_install.py` names the versions this was tested with.
"""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from django.conf import settings

from realtime.daphne_server.listening_sockets import addresses_of_process
from realtime.exposure import (
    exit_with,
    is_local_only,
    is_open_to_everyone,
    note_exposure,
    refusal,
    refuse_to_be_open,
)
from realtime.limits import LISTEN_BACKLOG

logger = logging.getLogger(__name__)


def _do_nothing() -> None:
    pass


def install(on_exposed: Callable[[], None] = _do_nothing) -> None:
    """Make daphne use our protocol classes; under another server, only look at what exposes it.

    Exits if others can reach this server, and clients need no credentials.

    Args:
        on_exposed: Called when sockets or daphne's options expose the server, and its settings do not.
    """
    refuse_to_be_open()
    if is_open_to_everyone():
        logger.warning("Open to everyone: clients need no token and no login (MAHAVISHNU_OPEN_TO_EVERYONE)")
    if "daphne.server" not in sys.modules:
        if addresses := addresses_of_process(sys.argv[1:]):
            if is_local_only():
                exit_with(refusal(f"it listens on {' and '.join(addresses)}"))
            note_exposure(on_exposed)
        return
    from daphne.http_protocol import HTTPFactory
    from daphne.server import Server
    from daphne.ws_protocol import WebSocketFactory
    from twisted.internet import reactor

    from realtime.daphne_server.accept_balancer import limit_accepts
    from realtime.daphne_server.exposure import see_listening_ports
    from realtime.daphne_server.http import BoundedHTTPProtocol
    from realtime.daphne_server.open_files import ensure_enough_files
    from realtime.daphne_server.scope import create_application_with_scheme
    from realtime.daphne_server.shutdown import GracefulShutdown
    from realtime.daphne_server.tls import secure_ports, server_context
    from realtime.daphne_server.transport import missing_features
    from realtime.daphne_server.websocket import MahavishnuProtocol

    ensure_enough_files(settings.MAHAVISHNU_LIMITS)
    tls_context = server_context()
    missing = missing_features()
    if missing:
        logger.error("Using daphne's slower send path: %s not found", ", ".join(missing))
    MahavishnuProtocol.limits = settings.MAHAVISHNU_LIMITS
    MahavishnuProtocol.use_daphne_transport = not missing
    MahavishnuProtocol.direct_frames = settings.MAHAVISHNU_DIRECT_FRAMES
    WebSocketFactory.protocol = MahavishnuProtocol
    Server.create_application = create_application_with_scheme(Server.create_application)

    shutdown = GracefulShutdown(settings.MAHAVISHNU_LIMITS)

    def build_protocol(factory: HTTPFactory) -> object:
        shutdown.server = factory.server
        factory.server.server_name = ""
        factory.server.ws_factory.server = None
        return BoundedHTTPProtocol()

    HTTPFactory.protocol = build_protocol
    skip_highlighting()
    _log_twisted_failures()
    running: Any = reactor
    running.callWhenRunning(partial(see_listening_ports, on_exposed))
    if tls_context is not None:
        running.callWhenRunning(partial(secure_ports, tls_context))
    running.callWhenRunning(shutdown.install)
    running.callWhenRunning(_raise_backlog)
    running.callWhenRunning(limit_accepts)


def skip_highlighting() -> None:
    """Skip the colors of autobahn's debug log, which it computes even while that log is disabled.

    For a connection and its first message it makes twenty colored strings, 5 % of their CPU time.
    """
    from autobahn.twisted import websocket as twisted_protocol
    from autobahn.websocket import protocol

    for module in (protocol, twisted_protocol):
        module.hltype = module.hlval = _unchanged


def _unchanged(value: object) -> object:
    return value


def _log_twisted_failures() -> None:
    """Log the exceptions that Twisted catches in code it calls, and failing accepts; daphne discards both."""
    from twisted.logger import FilteringLogObserver, LogLevel, LogLevelFilterPredicate, formatEvent, globalLogPublisher

    from realtime.daphne_server.open_files import log_accept_failure

    def log_failure(event: dict[str, Any]) -> None:
        # Twisted's own bridge finds no `failure` of its older interface, and writes the traceback into the message.
        failure = event.get("log_failure") or event.get("failure")
        raised = None if failure is None else (failure.type, failure.value, failure.getTracebackObject())
        message = formatEvent(event)
        logging.getLogger("twisted").critical(
            "%s", message if failure is None else message.partition("\n")[0], exc_info=raised
        )

    globalLogPublisher.addObserver(log_accept_failure)
    only_failures = LogLevelFilterPredicate(LogLevel.critical)
    globalLogPublisher.addObserver(FilteringLogObserver(log_failure, [only_failures]))


def _raise_backlog() -> None:
    """Raise the listen backlog. Daphne's `-p` sets 50; a second `listen` on the socket changes it."""
    from realtime.daphne_server.shutdown import listening_ports

    for port in listening_ports():
        listening: socket.socket = port.socket
        listening.listen(LISTEN_BACKLOG)
