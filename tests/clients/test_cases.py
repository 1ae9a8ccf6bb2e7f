"""The table of cases that both clients pass (`clients/cases.json`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import pytest

from mahavishnu_client.testing import FakeServer
from tests.clients import drivers
from tests.clients.case_backends import FakeBackend, RealBackend
from tests.clients.case_runner import CASES, CaseRun
from tests.clients.drivers import Driver
from tests.clients.tcp_proxy import TcpProxy
from tests.clients.token_backend import TokenBackend
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer
from tests.harness.tokens import REQUIRES_AUTH

COMMANDS = {"python": drivers.PYTHON, "javascript": drivers.JAVASCRIPT}


def cases(server: str, *, is_slow: bool = False) -> list[str]:
    return [name for name, case in CASES.items() if case["server"] == server and case.get("chaos", False) == is_slow]


@pytest.fixture(scope="module")
def clients() -> Iterator[list[Driver]]:
    started = [Driver(name, command) for name, command in COMMANDS.items()]
    yield started
    for driver in started:
        driver.close()


@pytest.fixture(scope="module")
def real_server(start_module_server: StartServer) -> MahavishnuServer:
    return start_module_server(reconnect_window_seconds=0.2)


@pytest.fixture(scope="module")
def token_server(start_module_server: StartServer) -> MahavishnuServer:
    return start_module_server(environment=REQUIRES_AUTH, auth_timeout_seconds=1, max_auth_failures_per_minute=0)


def run_real(name: str, server: MahavishnuServer, clients: list[Driver]) -> None:
    with TcpProxy(server.port) if CASES[name].get("proxy") else nullcontext() as proxy:
        CaseRun(CASES[name], drivers=clients, backend=RealBackend(server), proxy=proxy).run()


@pytest.mark.parametrize("name", cases("real"))
def test_clients_pass_the_case_with_a_real_server(
    name: str, real_server: MahavishnuServer, clients: list[Driver]
) -> None:
    run_real(name, real_server, clients)


@pytest.mark.chaos
@pytest.mark.parametrize("name", cases("real", is_slow=True))
def test_clients_pass_the_slow_case_with_a_real_server(
    name: str, real_server: MahavishnuServer, clients: list[Driver]
) -> None:
    run_real(name, real_server, clients)


@pytest.mark.parametrize("name", cases("token"))
def test_clients_pass_the_case_with_a_real_server_that_requires_tokens(
    name: str, token_server: MahavishnuServer, clients: list[Driver]
) -> None:
    CaseRun(CASES[name], drivers=clients, backend=TokenBackend(token_server)).run()


@pytest.mark.parametrize("client", COMMANDS)
@pytest.mark.parametrize("name", cases("fake") + cases("token"))
def test_client_passes_the_case_with_the_fake_server(name: str, client: str, clients: list[Driver]) -> None:
    (driver,) = (driver for driver in clients if driver.name == client)
    with FakeServer() as server:
        CaseRun(CASES[name], drivers=[driver], backend=FakeBackend(server)).run()
