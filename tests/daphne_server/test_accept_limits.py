"""Accepting connections: few in each iteration of the event loop, and floods of one address are closed at once."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import ExitStack
from typing import Any

import pytest

from realtime.daphne_server.accept_limits import (
    ACCEPTS_PER_ITERATION,
    MAX_ANSWERS_PER_SECOND,
    LimitedPort,
    answers_of_process,
)
from tests.harness.client import connect
from tests.harness.fixtures import StartServer
from tests.harness.ports import HOST

FLOODING = "127.0.0.66"
BURST = 5


class GrowingPort:
    """Twisted's port during a flood: after each iteration it would accept 20 more."""

    def __init__(self) -> None:
        self.factory: Any = type("Factory", (), {"buildProtocol": lambda _, address: address})()
        self.numberAccepts = 100
        self.accepted: list[int] = []

    def doRead(self) -> None:  # noqa: N802
        self.accepted.append(self.numberAccepts)
        self.numberAccepts += 20


def test_each_iteration_accepts_the_same_number_of_connections() -> None:
    port = GrowingPort()
    LimitedPort(port, answers_of_process())
    for _ in range(3):
        port.doRead()
    assert port.accepted == [ACCEPTS_PER_ITERATION] * 3


def test_port_changes_no_factory_that_it_shares_with_other_ports() -> None:
    plain, tls = GrowingPort(), GrowingPort()
    shared = plain.factory
    tls.factory = type("TLSFactory", (), {"wrappedFactory": shared})()
    for port in (plain, tls):
        LimitedPort(port, answers_of_process())
    assert tls.factory.wrappedFactory is shared
    assert vars(shared) == {}


@pytest.mark.parametrize("max_connections", [1000, BURST], ids=["rate", "rate and open connections"])
async def test_flood_of_one_address_is_answered_for_a_while_and_then_closed(
    start_server: StartServer, max_connections: int
) -> None:
    server = start_server(
        max_connections_per_address=max_connections,
        max_connect_burst=BURST,
        max_connects_per_second=0.1,
        environment={"MAHAVISHNU_TRUSTED_PROXIES": "192.0.2.1"},
    )
    connections = BURST + 10 * MAX_ANSWERS_PER_SECOND
    began = time.monotonic()
    answers = await asyncio.to_thread(_answers, server.port, connections)
    seconds = time.monotonic() - began
    answered = sum(answer.startswith(b"HTTP/1.1 429 ") for answer in answers)
    closed = sum(answer == b"" for answer in answers)
    assert (answered + closed, len(answers)) == (connections - BURST, connections - BURST)
    # The answers of a second at once, and those of the time that the flood takes.
    assert MAX_ANSWERS_PER_SECOND <= answered <= min(MAX_ANSWERS_PER_SECOND * (1 + seconds), connections - BURST - 1)
    assert "Closed a connection from 127.0.0.66: too many new connections a second" in server.log_text()
    # Another address is served.
    async with connect(server, local_addr=("127.0.0.67", 0)) as client:
        await client.subscribe("pool:pool_1")


def _answers(port: int, connections: int) -> list[bytes]:
    """Connect without pause; return what the server sends to those beyond the burst before it closes them."""
    with ExitStack() as stack:
        opened = []
        for _ in range(connections):
            connection = stack.enter_context(socket.socket())
            connection.settimeout(30)
            connection.bind((FLOODING, 0))
            connection.connect((HOST, port))
            opened.append(connection)
        return [connection.recv(1000) for connection in opened[BURST:]]
