"""The proxy between clients and the server leaves no socket open."""

from __future__ import annotations

import gc
import socket
from contextlib import suppress

from tests.clients.tcp_proxy import TIMEOUT_SECONDS, TcpProxy
from tests.harness.ports import HOST

ATTEMPTS = 50


def test_proxy_that_ends_while_a_connection_arrives_closes_it() -> None:
    """A socket that stays open fails the test: pytest turns its `ResourceWarning` into an error."""
    with socket.create_server((HOST, 0)) as server:
        for _ in range(ATTEMPTS):
            with TcpProxy(server.getsockname()[1]) as proxy:
                client = socket.create_connection((HOST, proxy.port))
            with client, suppress(ConnectionResetError):
                client.settimeout(TIMEOUT_SECONDS)
                assert client.recv(1) == b""
    gc.collect()
