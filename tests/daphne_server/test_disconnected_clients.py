"""A client that has disconnected ends its work and frees its place at once, regardless of what it sent before."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest
from websockets.frames import Opcode

from tests.connection.raw_client import RawClient, frame, open_raw, request
from tests.harness.fixtures import StartServer
from tests.harness.health import read_health
from tests.harness.server import MahavishnuServer
from tests.harness.table_lock import workflows_locked
from tests.harness.waiting import eventually

GONE_WITHIN_SECONDS = 15
"""The frames that the clients send would take 80 s."""


def reset(client: RawClient) -> None:
    client.writer.transport.abort()


def close(client: RawClient) -> None:
    """Close the socket without a close frame, as a process that ends does."""
    connection: socket.socket = client.writer.get_extra_info("socket")
    connection.shutdown(socket.SHUT_RDWR)


SMALL_FRAMES = {
    "fragments": frame(Opcode.TEXT, b"", fin=False) + frame(Opcode.CONT, b"", fin=False) * 8000,
    "pings": frame(Opcode.PING, b"") * 8000,
    "messages": frame(Opcode.TEXT, b"{}") * 8000,
}


@pytest.mark.parametrize("leave", [reset, close])
@pytest.mark.parametrize("frames", SMALL_FRAMES.values(), ids=list(SMALL_FRAMES))
async def test_unread_frames_keep_no_place_of_a_disconnected_client(
    lenient_server: MahavishnuServer, frames: bytes, leave: Callable[[RawClient], None]
) -> None:
    for _ in range(3):
        async with open_raw(lenient_server.port) as client:
            await client.send(frames)
            leave(client)
    await eventually(
        lambda: read_health(lenient_server)[1]["connections"] == 0,
        within_seconds=GONE_WITHIN_SECONDS,
        what="the end of the connections",
    )


@pytest.fixture(scope="module")
def lenient_server(start_module_server: StartServer) -> MahavishnuServer:
    """Start a server that does not close a connection for its rate, and answers no request late."""
    return start_module_server(database="postgres", rate_limit_grace_seconds=3600, request_timeout_seconds=600)


async def test_client_that_leaves_with_the_maximum_of_requests_in_flight_ends_them(
    lenient_server: MahavishnuServer,
) -> None:
    with workflows_locked(lenient_server):
        async with open_raw(lenient_server.port) as client:
            # More requests than are handled at once: the others wait in the receive queue.
            await client.send(request("get_workflow_status", workflow_id="w") * 100, request("nothing"))
            await eventually(lambda: read_health(lenient_server)[1]["connections"] == 1)
            reset(client)
            await eventually(
                lambda: read_health(lenient_server)[1]["connections"] == 0,
                within_seconds=GONE_WITHIN_SECONDS,
                what="the end of the connection",
            )
    # Daphne ends the application of a disconnected client after 10 s.
    assert "took too long to shut down" not in lenient_server.log_text()
