"""What is added to daphne: frames that go straight to the socket, and what it was proven with."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import signal
import socket
import ssl
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from websockets.asyncio.client import unix_connect
from websockets.frames import Frame, Opcode

from realtime.daphne_server.transport import close_reason, missing_features
from realtime.protocol.frames import text_frame
from tests.connection.raw_client import NARROW_BYTES, all_messages, open_raw, request
from tests.events.announcements import announce
from tests.harness.client import Client, connect
from tests.harness.fixtures import StartServer
from tests.harness.ports import HOST, free_port
from tests.harness.server import MahavishnuServer
from tests.harness.services import PROJECT_DIR
from tests.harness.waiting import wait_until


def test_these_are_the_versions_it_was_proven_with() -> None:
    """Another version may have moved what `realtime.daphne_server.transport`, `.websocket` and `.http_deadline` lean on: run the tests of
    the server, the benchmark `fan_out`, and then write the new version here.
    """
    names = ("autobahn", "daphne", "Twisted")
    assert {name: importlib.metadata.version(name) for name in names} == {
        "autobahn": "26.10.2",
        "daphne": "4.2.3",
        "Twisted": "26.10.0",
    }


def test_nothing_is_missing_in_them() -> None:
    assert missing_features() == []


def test_a_feature_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("twisted.internet.abstract.FileDescriptor.offset")
    assert missing_features() == ["twisted FileDescriptor.offset"]


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65535, 65536, 200_000])
def test_a_frame_is_what_rfc_6455_says(length: int) -> None:
    message = b"x" * length
    assert text_frame(message) == Frame(Opcode.TEXT, message).serialize(mask=False)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", b""), ("DRAINING", b"DRAINING"), ("x" * 124, b"x" * 123), ("x" * 122 + "é", b"x" * 122)],
)
def test_a_close_reason_is_cut_between_two_characters(text: str, reason: bytes) -> None:
    assert close_reason(text) == reason


@pytest.fixture(scope="module")
def ordinary_server(server: MahavishnuServer, start_shared_server: StartServer) -> Iterator[MahavishnuServer]:
    """A second process on the same database, whose frames take daphne's and autobahn's own way."""
    ordinary = start_shared_server(beside=server, environment={"MAHAVISHNU_DIRECT_FRAMES": "0"})
    yield ordinary
    ordinary.close()


async def test_the_bytes_on_the_wire_are_those_of_the_ordinary_path(
    server: MahavishnuServer, ordinary_server: MahavishnuServer, unique: Callable[[str], str]
) -> None:
    room = f"workflow:{unique('bytes')}"
    async with open_raw(server.port) as direct, open_raw(ordinary_server.port) as ordinary:
        for client in (direct, ordinary):
            await client.send(request("subscribe", channel=room))
            assert (await client.message())["type"] == "response"
        for sizes in ((10,), (400,), (65_400,), (10, 65_400, 1000)):
            announce(server, room, *sizes)
            for size in sizes:
                frame = await direct.receive()
                assert len(frame.json()["data"]["padding"].encode()) == size
                assert frame.wire == (await ordinary.receive()).wire
                assert (len(frame.payload) > 65_535) == (size == 65_400)


@contextmanager
def running(server: MahavishnuServer, *command: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Serve the same application and database by another command."""
    log_path = server.var_dir / f"{command[0]}.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            command, cwd=PROJECT_DIR, env=server.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )

    def answers() -> bool:
        assert process.poll() is None, log_path.read_text()
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=5):
                return True
        except OSError:
            return False

    try:
        wait_until(answers, timeout_seconds=30, what=log_path.read_text)
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
    assert "Traceback" not in log_path.read_text()


async def test_under_uvicorn_the_same_application_takes_the_ordinary_path(
    server: MahavishnuServer, unique: Callable[[str], str]
) -> None:
    room, port = f"workflow:{unique('uvicorn')}", free_port()
    command = ("uvicorn", "--host", HOST, "--port", str(port), "--no-access-log", "mahavishnu_site.asgi:application")
    with running(server, *command, port=port):
        async with connect(f"ws://{HOST}:{port}") as client, connect(server) as witness:
            for subscriber in (client, witness):
                await subscriber.subscribe(room)
            for size in (10, 65_400):
                announce(server, room, size)
                assert await client.next() == await witness.next()
            await client.send_raw("x" * (64 * 1024 + 1))
            told = await client.next()
            assert (told["type"], told["error_code"]) == ("error", "MESSAGE_TOO_BIG")
            assert await client.wait_closed() == (1009, "MESSAGE_TOO_BIG")
        await assert_a_slow_reader_is_told(server, port, room)


async def assert_a_slow_reader_is_told(server: MahavishnuServer, port: int, room: str) -> None:
    """One that stalls, in a burst that cuts nobody else."""
    log_path = server.var_dir / "uvicorn.log"
    async with open_raw(port, receive_buffer_bytes=NARROW_BYTES) as slow, connect(f"ws://{HOST}:{port}") as witness:
        await slow.send(request("subscribe", channel=room))
        assert (await slow.message())["type"] == "response"
        await witness.subscribe(room)
        announce(server, room, *[60_000] * 100)
        seen = await witness.events(100)
        await asyncio.to_thread(
            wait_until,
            lambda: "reads too slowly" in log_path.read_text(),
            timeout_seconds=60,
            what="the end of the server's patience",
        )
        (*events, error), close = await all_messages(slow)
        assert 0 < len(events) < 100
        assert events == seen[: len(events)]
        assert error["error_code"] == "SLOW_CONSUMER"
        assert close == (1008, "SLOW_CONSUMER")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a private key and a certificate for this machine."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(private + signed.public_bytes(Encoding.PEM))
    return path


async def test_every_kind_of_endpoint_delivers_the_same(
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
    with running(server, "daphne", *command, *arguments, port=plain), socket.socket() as behind_a_proxy:
        behind_a_proxy.connect((HOST, proxied))
        behind_a_proxy.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 1111 2222\r\n")
        trust = ssl.create_default_context(cafile=str(certificate))
        async with (
            connect(server) as witness,
            connect(f"wss://localhost:{tls}", ssl=trust) as over_tls,
            connect(f"ws://localhost:{proxied}", sock=behind_a_proxy) as over_a_proxy,
            unix_connect(str(unix_path), "ws://localhost/") as over_a_unix_socket,
        ):
            others = (over_tls, over_a_proxy, Client(over_a_unix_socket))
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


async def test_the_plain_daphne_command_is_as_good(server: MahavishnuServer) -> None:
    port = free_port()
    timeouts = ("--websocket_timeout", "1", "--ping-interval", "1", "--ping-timeout", "2", "--verbosity", "0")
    with running(server, "daphne", "-p", str(port), *timeouts, "mahavishnu_site.asgi:application", port=port) as daphne:
        await assert_only_who_answers_no_ping_is_dropped(port)
        await assert_many_may_wait_to_be_accepted(daphne, port)


async def assert_only_who_answers_no_ping_is_dropped(port: int) -> None:
    async with open_raw(port) as silent, connect(f"ws://{HOST}:{port}") as lively:
        assert (await silent.receive()).opcode == Opcode.PING
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await silent.receive()
        assert (await lively.unsubscribe("global"))["type"] == "response"


async def assert_many_may_wait_to_be_accepted(daphne: subprocess.Popen[bytes], port: int) -> None:
    """While a process accepts nobody, the kernel completes as many connections as the listener asked it to."""
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
