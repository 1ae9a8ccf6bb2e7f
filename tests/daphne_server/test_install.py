"""What is installed into daphne: the tested versions, the bytes sent, every kind of endpoint, other servers."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from autobahn.twisted import websocket as twisted_protocol
from autobahn.websocket import protocol
from websockets.asyncio.client import unix_connect
from websockets.frames import Frame, Opcode

from realtime.daphne_server.install import skip_highlighting
from realtime.daphne_server.transport import close_reason, missing_features
from realtime.protocol.frames import text_frame
from tests.connection.raw_client import SMALL_BUFFER_BYTES, all_messages, open_raw, request
from tests.daphne_server.endpoints import run_command, write_certificate
from tests.events.announcements import announce
from tests.harness.client import Client, connect
from tests.harness.fixtures import StartServer
from tests.harness.ports import HOST, free_port
from tests.harness.server import MahavishnuServer
from tests.harness.waiting import eventually


def test_installed_versions_are_the_tested_ones() -> None:
    """Fail on a new version: `realtime.daphne_server` relies on private features of these packages.

    Run `tests/daphne_server` and the benchmark `fan_out` with it, and update the version here.
    """
    names = ("autobahn", "daphne", "Twisted")
    assert {name: importlib.metadata.version(name) for name in names} == {
        "autobahn": "26.10.2",
        "daphne": "4.2.3",
        "Twisted": "26.10.0",
    }


def test_missing_features_is_empty_for_the_installed_twisted() -> None:
    assert missing_features() == []


def test_missing_features_names_a_missing_attribute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("twisted.internet.abstract.FileDescriptor.offset")
    assert missing_features() == ["twisted FileDescriptor.offset"]


def test_debug_log_of_autobahn_is_not_highlighted(monkeypatch: pytest.MonkeyPatch) -> None:
    uses = [(module, name) for module in (protocol, twisted_protocol) for name in ("hltype", "hlval")]
    for module, name in uses:
        # This fails if the installed autobahn has no such function.
        monkeypatch.setattr(module, name, highlight := getattr(module, name))
        assert highlight("text") != "text"
    skip_highlighting()
    assert [getattr(module, name)("text") for module, name in uses] == ["text"] * len(uses)


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65535, 65536, 200_000])
def test_text_frame_equals_the_frame_of_another_library(length: int) -> None:
    message = b"x" * length
    assert text_frame(message) == Frame(Opcode.TEXT, message).serialize(mask=False)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", b""), ("DRAINING", b"DRAINING"), ("x" * 124, b"x" * 123), ("x" * 122 + "é", b"x" * 122)],
)
def test_close_reason_is_cut_between_two_characters(text: str, reason: bytes) -> None:
    assert close_reason(text) == reason


@pytest.fixture(scope="module")
def server_without_direct_frames(server: MahavishnuServer, start_module_server: StartServer) -> MahavishnuServer:
    """Start a second process on the same database that sends frames through daphne and autobahn."""
    return start_module_server(beside=server, environment={"MAHAVISHNU_DIRECT_FRAMES": "0"})


async def test_direct_frames_sends_the_same_bytes_as_daphne(
    server: MahavishnuServer, server_without_direct_frames: MahavishnuServer, unique: Callable[[str], str]
) -> None:
    room = f"workflow:{unique('bytes')}"
    async with open_raw(server.port) as direct, open_raw(server_without_direct_frames.port) as ordinary:
        for client in (direct, ordinary):
            await client.send(request("subscribe", channel=room))
            assert (await client.message())["type"] == "response"
        for sizes in ((10,), (400,), (65_400,), (10, 65_400, 1000)):
            announce(server, room, *sizes)
            for size in sizes:
                frame = await direct.receive()
                assert len(frame.json()["data"]["padding"].encode()) == size
                assert frame.data == (await ordinary.receive()).data
                assert (len(frame.payload) > 65_535) == (size == 65_400)


async def test_uvicorn_serves_the_application_through_asgi(
    server: MahavishnuServer, unique: Callable[[str], str]
) -> None:
    room, port = f"workflow:{unique('uvicorn')}", free_port()
    command = ("uvicorn", "--host", HOST, "--port", str(port), "--no-access-log", "mahavishnu_site.asgi:application")
    with run_command(server, *command, port=port):
        async with connect(f"ws://{HOST}:{port}") as client, connect(server) as witness:
            for subscriber in (client, witness):
                await subscriber.subscribe(room)
            for size in (10, 65_400):
                announce(server, room, size)
                assert await client.next() == await witness.next()
            await client.send_raw("x" * (64 * 1024 + 1))
            error = await client.next()
            assert (error["type"], error["error_code"]) == ("error", "MESSAGE_TOO_BIG")
            assert await client.wait_closed() == (1009, "MESSAGE_TOO_BIG")
        await assert_slow_consumer_is_closed(server, port, room)


async def assert_slow_consumer_is_closed(server: MahavishnuServer, port: int, room: str) -> None:
    """Check that a burst closes a stalled client, and no other."""
    log_path = server.var_dir / "uvicorn.log"
    async with (
        open_raw(port, receive_buffer_bytes=SMALL_BUFFER_BYTES) as slow,
        connect(f"ws://{HOST}:{port}") as witness,
    ):
        await slow.send(request("subscribe", channel=room))
        assert (await slow.message())["type"] == "response"
        await witness.subscribe(room)
        announce(server, room, *[60_000] * 100)
        sent = await witness.events(100)
        await eventually(lambda: "slow consumer" in log_path.read_text(), within_seconds=60, what="the slow consumer")
        (*events, error), close = await all_messages(slow)
        assert 0 < len(events) < 100
        assert events == sent[: len(events)]
        assert error["error_code"] == "SLOW_CONSUMER"
        assert close == (1008, "SLOW_CONSUMER")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_certificate(tmp_path_factory.mktemp("tls"))


async def test_tls_proxy_and_unix_socket_endpoints_deliver_the_same_events(
    server: MahavishnuServer, certificate: Path, unique: Callable[[str], str]
) -> None:
    room, unix_path = f"workflow:{unique('endpoint')}", certificate.with_name("d.sock")
    plain, tls, proxied = free_port(), free_port(), free_port()
    endpoints = (
        f"tcp:port={plain}:interface={HOST}",
        f"ssl:port={tls}:interface={HOST}:privateKey={certificate}:certKey={certificate}",
        f"haproxy:tcp:port={proxied}:interface={HOST}",
    )
    command = [word for endpoint in endpoints for word in ("--endpoint", endpoint)]
    arguments = ("--verbosity", "0", "--unix-socket", str(unix_path), "mahavishnu_site.asgi:application")
    # The proxy's line names the address that its client has reached, beyond loopback.
    is_open = {"MAHAVISHNU_OPEN_TO_EVERYONE": "1"}
    with run_command(server, "daphne", *command, *arguments, port=plain, **is_open), socket.socket() as proxied_socket:
        proxied_socket.connect((HOST, proxied))
        proxied_socket.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 1111 2222\r\n")
        trust = ssl.create_default_context(cafile=str(certificate))
        async with (
            connect(server) as witness,
            connect(f"wss://localhost:{tls}", ssl=trust) as over_tls,
            connect(f"ws://localhost:{proxied}", sock=proxied_socket) as over_proxy,
            unix_connect(str(unix_path), "ws://localhost/") as over_unix_socket,
        ):
            others = (over_tls, over_proxy, Client(over_unix_socket))
            await others[-1].next()
            for client in (witness, *others):
                await client.subscribe(room)
            for sizes in ((10,), (65_400,), (60_000,) * 10):
                announce(server, room, *sizes)
                expected = await witness.events(len(sizes))
                for client in others:
                    assert await client.events(len(sizes)) == expected
            health = await asyncio.to_thread(http_over_unix_socket, unix_path, "/health")
            assert health["status"] == "healthy"


def http_over_unix_socket(path: Path, target: str) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    report: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
    return report


async def test_plain_daphne_command_gets_our_protocol(server: MahavishnuServer) -> None:
    port = free_port()
    timeouts = ("--websocket_timeout", "1", "--ping-interval", "1", "--ping-timeout", "5", "--verbosity", "0")
    with run_command(
        server, "daphne", "-p", str(port), *timeouts, "mahavishnu_site.asgi:application", port=port
    ) as daphne:
        await assert_only_an_unanswered_ping_drops_the_client(port)
        await assert_listen_backlog_is_raised(daphne, port)


async def assert_only_an_unanswered_ping_drops_the_client(port: int) -> None:
    async with open_raw(port) as silent, connect(f"ws://{HOST}:{port}") as lively:
        assert (await silent.receive()).opcode == Opcode.PING
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await silent.receive()
        assert (await lively.unsubscribe("global"))["type"] == "response"


async def assert_listen_backlog_is_raised(daphne: subprocess.Popen[bytes], port: int) -> None:
    """Check that the kernel completes more connections than daphne's backlog of 50 while the process is stopped."""
    daphne.send_signal(signal.SIGSTOP)
    waiting = [socket.socket() for _ in range(200)]
    try:
        for connection in waiting:
            connection.settimeout(5)
            connection.connect((HOST, port))
    finally:
        for connection in waiting:
            connection.close()
        daphne.send_signal(signal.SIGCONT)
