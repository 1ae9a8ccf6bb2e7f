"""The fake server that users of the Python client have for their own tests."""

from __future__ import annotations

import socket
import time

from mahavishnu_client.sync import connect
from mahavishnu_client.testing import FakeServer


def test_fake_server_ends_at_once_with_a_connection_that_sends_nothing() -> None:
    with FakeServer() as server:
        connection = socket.create_connection(("127.0.0.1", server.port))
        # It is accepted before a later one is answered.
        with connect(server.url) as client:
            client.wait_live()
        began = time.monotonic()
    # A handshake may take 10 s.
    assert time.monotonic() - began < 5
    with connection:
        assert connection.recv(1) == b""
