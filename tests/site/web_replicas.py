"""The daphne processes behind one port, and the clients that each of them serves."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import psutil

from tests.harness.client import Client, connect
from tests.harness.ports import HOST
from tests.harness.server import MahavishnuServer
from tests.harness.waiting import eventually

MAX_CLIENTS = 400
HEAD_START_SECONDS = 0.005


def processes_of(server: MahavishnuServer) -> list[psutil.Process]:
    """Return the daphne processes, without their parent."""
    children: list[psutil.Process] = psutil.Process(server.pid).children()
    return children


def clients_by_process(server: MahavishnuServer) -> dict[int, set[int]]:
    """Return the client ports of each process's connections by its pid, as the kernel lists them."""
    return {
        process.pid: {
            connection.raddr.port
            for connection in process.net_connections("tcp4")
            if connection.status == psutil.CONN_ESTABLISHED and connection.laddr.port == server.port
        }
        for process in processes_of(server)
    }


def port_of(client: Client) -> int:
    """Return the client's own port."""
    port: int = client.connection.local_address[1]
    return port


def listening(server: MahavishnuServer) -> list[psutil.Process]:
    """Return the processes that listen: their copy of the socket is no longer their standard input."""
    return [
        process
        for process in processes_of(server)
        if any(each.fd > 0 and each.status == psutil.CONN_LISTEN for each in process.net_connections("tcp4"))
    ]


async def fastest_first(server: MahavishnuServer) -> list[psutil.Process]:
    """Return the processes; the first accepts most clients while none has any."""
    await eventually(lambda: len(listening(server)) == server.processes)
    async with AsyncExitStack() as stack:
        for _ in range(15):
            await stack.enter_async_context(connect(server))
        accepted = {pid: len(ports) for pid, ports in clients_by_process(server).items()}
    await eventually(lambda: not any(clients_by_process(server).values()))
    return sorted(processes_of(server), key=lambda process: -accepted[process.pid])


@asynccontextmanager
async def only(server: MahavishnuServer, process: psutil.Process) -> AsyncIterator[None]:
    """Suspend all other processes, so that this one accepts every client."""
    others = [each for each in processes_of(server) if each.pid != process.pid]
    for other in others:
        other.suspend()
    try:
        yield
    finally:
        for other in others:
            other.resume()


@asynccontextmanager
async def connect_with_head_start(server: MahavishnuServer, process: psutil.Process) -> AsyncIterator[Client]:
    """Open a connection that all other processes see only after this one has had time to accept it."""
    async with only(server, process):
        connection = socket.create_connection((HOST, server.port))
        await asyncio.sleep(HEAD_START_SECONDS)
    async with connect(server, sock=connection) as client:
        yield client


@asynccontextmanager
async def clients_of_every_process(server: MahavishnuServer, *, per_process: int) -> AsyncIterator[list[Client]]:
    """Connect clients until every process serves at least `per_process` of them."""
    clients: list[Client] = []

    def is_spread() -> bool:
        ports = set(map(port_of, clients))
        return all(len(served & ports) >= per_process for served in clients_by_process(server).values())

    async with AsyncExitStack() as stack:
        await eventually(lambda: len(listening(server)) == server.processes)
        while not is_spread():
            assert len(clients) < MAX_CLIENTS, clients_by_process(server)
            # To list the connections takes longer than to connect.
            for _ in range(server.processes):
                clients.append(await stack.enter_async_context(connect(server)))
        yield clients
