"""Which origins and paths may open a WebSocket: the whole table, with raw handshakes."""

from __future__ import annotations

import socket

import pytest

from realtime.connection.origin import peer_address
from tests.harness.fixtures import StartServer
from tests.harness.ports import HOST
from tests.harness.server import MahavishnuServer

LISTED = "https://app.example,http://Other.example:8443"

OWN = "{own}"
"""Stands for the server's address, as a browser sends it."""

ABSENT: dict[str, tuple[str | None, str]] = {
    "no origin, as scripts send none": (None, OWN),
    "no origin, and another host": (None, "elsewhere.example"),
}
ALLOWED: dict[str, tuple[str | None, str]] = {
    **ABSENT,
    "the server's own": (f"http://{OWN}", OWN),
    "localhost": ("http://localhost", OWN),
    "localhost on any port": ("http://localhost:3000", OWN),
    "localhost in capitals": ("http://LOCALHOST:3000", OWN),
    "localhost over TLS": ("https://localhost", OWN),
    "a name below localhost": ("http://app.localhost:5173", OWN),
    "127.0.0.1": ("http://127.0.0.1:8000", OWN),
    "another loopback address": ("http://127.8.9.10", OWN),
    "the loopback address of IPv6": ("http://[::1]:8000", OWN),
    "a listed one": ("https://app.example", OWN),
    "a listed one in capitals": ("HTTPS://APP.EXAMPLE", OWN),
    "a listed one with a port": ("http://other.example:8443", OWN),
    "the same host as the request": ("http://mahavishnu.example", "mahavishnu.example"),
    "the same host with another port and scheme": ("https://mahavishnu.example", "mahavishnu.example:8690"),
    "the same host in other case": ("http://Mahavishnu.example", "MAHAVISHNU.example"),
}
REJECTED: dict[str, tuple[str | None, str]] = {
    "another site": ("https://evil.example", OWN),
    "a listed host on another port": ("https://app.example:444", OWN),
    "a listed host over another scheme": ("http://app.example", OWN),
    "a listed host with more before it": ("https://evil-app.example", OWN),
    "a listed host with more after it": ("https://app.example.evil.example", OWN),
    "a listed one with a path": ("https://app.example/evil", OWN),
    "null, as a sandboxed page sends it": ("null", OWN),
    "a file": ("file://", OWN),
    "a host that begins like localhost": ("http://localhost.evil.example", OWN),
    "a host that ends like localhost": ("http://evillocalhost", OWN),
    "a host that begins like the loopback address": ("http://127.0.0.1.evil.example", OWN),
    "localhost as a user": ("http://localhost@evil.example", OWN),
    "a private address": ("http://192.168.1.2", OWN),
    "the unspecified address": ("http://0.0.0.0:8690", OWN),
    "a browser extension": ("chrome-extension://abcdefghijklmnop", OWN),
    "not even text": ("http://\xff\xfe", OWN),
    "two in one": ("https://app.example, https://evil.example", OWN),
    # A name that was made to resolve to this machine (DNS rebinding).
    "the same host as the request, which is not allowed": ("http://evil.example", "evil.example"),
    "the same host as the request, with the server's port": ("http://evil.example:8690", "evil.example:8690"),
}

MALFORMED = {"empty": "", "no URL": "localhost", "half an IPv6 address": "http://[::1"}


@pytest.fixture(scope="module")
def server(start_module_server: StartServer) -> MahavishnuServer:
    return start_module_server(
        environment={"MAHAVISHNU_ALLOWED_ORIGINS": LISTED, "ALLOWED_HOSTS": "127.0.0.1,localhost,mahavishnu.example"}
    )


def handshake(server: MahavishnuServer, *, origin: str | None, host: str, path: str = "/") -> int:
    """Request a WebSocket and return the status code of the answer."""
    own = f"{HOST}:{server.port}"
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {host.replace(OWN, own)}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        *([f"Origin: {origin.replace(OWN, own)}"] if origin is not None else []),
    ]
    with socket.create_connection((HOST, server.port), timeout=60) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        status_line = connection.makefile("rb").readline().decode()
    return int(status_line.split()[1])


@pytest.mark.parametrize(("origin", "host"), ALLOWED.values(), ids=ALLOWED)
def test_handshake_from_an_allowed_origin_is_accepted(server: MahavishnuServer, origin: str | None, host: str) -> None:
    assert handshake(server, origin=origin, host=host) == 101


@pytest.mark.parametrize(("origin", "host"), REJECTED.values(), ids=REJECTED)
def test_handshake_from_another_origin_is_rejected_with_403_and_logged(
    server: MahavishnuServer, origin: str, host: str
) -> None:
    log_before = server.log_text()
    status = handshake(server, origin=origin, host=host)
    log = server.log_text().removeprefix(log_before)
    assert "Traceback" not in log
    assert status == 403
    assert (
        f"origin {origin!r} is neither this host (ALLOWED_HOSTS), a loopback host, nor in MAHAVISHNU_ALLOWED_ORIGINS"
    ) in log


@pytest.mark.parametrize("origin", MALFORMED.values(), ids=MALFORMED)
def test_handshake_with_a_malformed_origin_is_rejected_with_400(server: MahavishnuServer, origin: str) -> None:
    assert handshake(server, origin=origin, host=OWN) == 400


@pytest.mark.parametrize(
    ("client", "address"),
    [
        (["127.0.0.1", 5000], "127.0.0.1:5000"),
        (("2001:db8::1", 5000), "[2001:db8::1]:5000"),
        (None, "unknown"),
    ],
)
def test_peer_address_of_log_lines(client: list[object] | None, address: str) -> None:
    assert peer_address(client) == address


@pytest.mark.parametrize("path", ["/", "/ws", "/ws/"])
def test_handshake_on_a_served_path_is_accepted(server: MahavishnuServer, path: str) -> None:
    assert handshake(server, origin=None, host=OWN, path=path) == 101


@pytest.mark.parametrize("path", ["/health", "/wss", "/ws/x", "/admin/", "/%77s/../x"])
def test_handshake_on_another_path_is_rejected(server: MahavishnuServer, path: str) -> None:
    assert handshake(server, origin=None, host=OWN, path=path) == 403
