"""Which pages may open a WebSocket: the whole table, over handshakes written by hand."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.harness.fixtures import StartServer
from tests.harness.ports import HOST
from tests.harness.server import MahavishnuServer

LISTED = "https://app.example,http://Other.example:8443"

OWN = "{own}"
"""The address of the server, as a browser that came there by it would send it."""

ABSENT: dict[str, tuple[str | None, str]] = {
    "no origin, as scripts send none": (None, OWN),
    "no origin, and whatever host": (None, "elsewhere.example"),
}
ALLOWED: dict[str, tuple[str | None, str]] = {
    **ABSENT,
    "its own": (f"http://{OWN}", OWN),
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
    "the same host in other letters": ("http://Mahavishnu.example", "MAHAVISHNU.example"),
}
REFUSED: dict[str, tuple[str | None, str]] = {
    "a foreign one": ("https://evil.example", OWN),
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
    "the address of nowhere": ("http://0.0.0.0:8690", OWN),
    "an extension of a browser": ("chrome-extension://abcdefghijklmnop", OWN),
    "not even text": ("http://\xff\xfe", OWN),
    "two in one": ("https://app.example, https://evil.example", OWN),
    # Its name was made to resolve to this machine (DNS rebinding).
    "the same host as the request, which is not ours": ("http://evil.example", "evil.example"),
    "the same host as the request, with our port": ("http://evil.example:8690", "evil.example:8690"),
}

MALFORMED = {"empty": "", "no URL": "localhost", "half an IPv6 address": "http://[::1"}


@pytest.fixture(scope="module")
def server(start_shared_server: StartServer) -> Iterator[MahavishnuServer]:
    server = start_shared_server(
        environment={"MAHAVISHNU_ALLOWED_ORIGINS": LISTED, "ALLOWED_HOSTS": "127.0.0.1,localhost,mahavishnu.example"}
    )
    yield server
    server.close()


def handshake(server: MahavishnuServer, *, origin: str | None, host: str, path: str = "/") -> int:
    """Ask for a WebSocket and return the status of the answer."""
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
def test_it_is_allowed(server: MahavishnuServer, origin: str | None, host: str) -> None:
    assert handshake(server, origin=origin, host=host) == 101


@pytest.mark.parametrize(("origin", "host"), REFUSED.values(), ids=REFUSED)
def test_it_is_refused_and_logged(server: MahavishnuServer, origin: str, host: str) -> None:
    log_before = server.log_text()
    status = handshake(server, origin=origin, host=host)
    log = server.log_text().removeprefix(log_before)
    assert "Traceback" not in log
    assert status == 403
    assert f"its origin {origin!r} is not in MAHAVISHNU_ALLOWED_ORIGINS" in log


@pytest.mark.parametrize("origin", MALFORMED.values(), ids=MALFORMED)
def test_what_no_browser_would_send_is_no_request_at_all(server: MahavishnuServer, origin: str) -> None:
    assert handshake(server, origin=origin, host=OWN) == 400


@pytest.mark.parametrize("path", ["/", "/ws", "/ws/"])
def test_a_websocket_is_served_on_its_paths(server: MahavishnuServer, path: str) -> None:
    assert handshake(server, origin=None, host=OWN, path=path) == 101


@pytest.mark.parametrize("path", ["/health", "/wss", "/ws/x", "/admin/", "/%77s/../x"])
def test_a_websocket_is_refused_on_every_other_path(server: MahavishnuServer, path: str) -> None:
    assert handshake(server, origin=None, host=OWN, path=path) == 403
