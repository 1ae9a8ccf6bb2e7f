"""Look at what daphne listens on, before it accepts a connection: see `realtime.exposure`."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from typing import Any

from realtime.daphne_server.listening_sockets import addresses_beyond_loopback
from realtime.daphne_server.shutdown import http_factory, listening_ports
from realtime.exposure import CONFIGURATION_ERROR_EXIT_CODE, is_local_only, note_exposure, refusal


def see_listening_ports(on_exposed: Callable[[], None]) -> None:
    """Exit if daphne's ports expose an open server; otherwise note that the server is exposed, if it is.

    Called when Twisted's reactor runs and listens, and has not accepted a connection.
    """
    ports = listening_ports()
    addresses = sorted({address for port in ports for address in addresses_beyond_loopback(port.fileno())})
    reasons = [f"it listens on {' and '.join(addresses)}"] if addresses else []
    if any(_reads_proxy_headers(port) for port in ports):
        reasons.append("daphne has --proxy-headers")
    if reasons and is_local_only():
        # An exception in the reactor would not end it.
        print(refusal(" and ".join(reasons)), file=sys.stderr, flush=True)
        logging.shutdown()
        os._exit(CONFIGURATION_ERROR_EXIT_CODE)
    if reasons:
        note_exposure(on_exposed)


def _reads_proxy_headers(port: Any) -> bool:
    server = getattr(http_factory(port), "server", None)
    names = ("proxy_forwarded_address_header", "proxy_forwarded_proto_header")
    return any(getattr(server, name, None) for name in names)
