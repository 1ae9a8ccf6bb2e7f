"""Which origins and paths may open a WebSocket: the whole table, with raw handshakes."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest

from realtime.connection.client_address import peer_address
from tests.connection.raw_client import upgrade
from tests.daphne_server.endpoints import run_command, write_certificate
from tests.harness.fixtures import StartServer
from tests.harness.ports import HOST, free_port
from tests.harness.server import MahavishnuServer

Cases = dict[str, tuple[str | None, str]]

LISTED = "https://app.example,http://Other.example:8443,https://*.apps.example,https://Bücher.example:443"
HOSTS = "127.0.0.1,localhost,mahavishnu.example"

OWN = "{own}"
"""Stands for the server's address, as a browser sends it."""

PORT = "{port}"
"""Stands for the server's port."""

ABSENT: Cases = {
    "no origin, as scripts send none": (None, OWN),
    "no origin, and another host": (None, "elsewhere.example"),
}
OWN_ORIGINS: Cases = {
    "the server's own": (f"http://{OWN}", OWN),
    "the server's own under another name": (f"http://localhost:{PORT}", f"localhost:{PORT}"),
}
PAGES_PORT = 8691
OWN_PAGES: Cases = {
    "the server's own host on the port of its pages": (f"http://mahavishnu.example:{PAGES_PORT}", "mahavishnu.example"),
}
OTHER_PAGES: Cases = {
    "another host on the port of the pages": (f"http://other.example:{PAGES_PORT}", "mahavishnu.example"),
    "the port of the pages over another scheme": (f"https://mahavishnu.example:{PAGES_PORT}", "mahavishnu.example"),
}
LOOPBACK: Cases = {
    "localhost": ("http://localhost", OWN),
    "localhost on any port": ("http://localhost:5173", OWN),
    "localhost in capitals": ("http://LOCALHOST:3000", OWN),
    "localhost over TLS": ("https://localhost", OWN),
    "a name below localhost": ("http://app.localhost:5173", OWN),
    "127.0.0.1": ("http://127.0.0.1:8000", OWN),
    "another loopback address": ("http://127.8.9.10", OWN),
    "the loopback address of IPv6": ("http://[::1]:8000", OWN),
}
LISTED_ORIGINS: Cases = {
    "a listed one": ("https://app.example", OWN),
    "a listed one in capitals": ("HTTPS://APP.EXAMPLE", OWN),
    "a listed one with the default port": ("https://app.example:443", OWN),
    "a listed one with a port": ("http://other.example:8443", OWN),
    "a listed one with a final dot": ("https://app.example.", OWN),
    "below a listed wildcard": ("https://a.apps.example", OWN),
    "two names below a listed wildcard": ("https://a.b.apps.example", OWN),
    "a listed internationalized name, in Punycode": ("https://xn--bcher-kva.example", OWN),
    "the same host as the request": ("http://mahavishnu.example", "mahavishnu.example"),
    "the same host and port as the request": ("http://mahavishnu.example:8690", "mahavishnu.example:8690"),
    "the same host, with the default port": ("http://mahavishnu.example", "mahavishnu.example:80"),
    "the same host in other case": ("http://Mahavishnu.example", "MAHAVISHNU.example"),
}
NEVER_ALLOWED: Cases = {
    "another site": ("https://evil.example", OWN),
    "null, as a sandboxed page sends it": ("null", OWN),
    "a file": ("file://", OWN),
    "a file of localhost": ("file://localhost", OWN),
    "a script": ("javascript://localhost/%0aalert(1)", OWN),
    "a WebSocket address": ("ws://localhost:3000", OWN),
    "localhost without a scheme": ("//localhost", OWN),
    "localhost before a backslash": ("http://localhost\\@evil.example", OWN),
    "localhost after a backslash": ("http://evil.example\\@localhost", OWN),
    "localhost after a user": ("http://evil.example@localhost", OWN),
    "localhost after an empty user": ("http://@localhost", OWN),
    "localhost as a user": ("http://localhost@evil.example", OWN),
    "localhost and a tab": ("http://local\thost", OWN),
    "localhost and a space": ("http://localhost :80", OWN),
    "localhost and a path": ("http://localhost/", OWN),
    "localhost and a query": ("http://localhost?x", OWN),
    "localhost and a fragment": ("http://localhost#x", OWN),
    "localhost and an empty port": ("http://localhost:", OWN),
    "localhost and port 0": ("http://localhost:0", OWN),
    "localhost and a port with a zero before it": ("http://localhost:080", OWN),
    "localhost and a percent sign": ("http://%6cocalhost", OWN),
    "localhost with two final dots": ("http://localhost..", OWN),
    "localhost below an empty name": ("http://.localhost", OWN),
    "a host that begins like localhost": ("http://localhost.evil.example", OWN),
    "a host that ends like localhost": ("http://evillocalhost", OWN),
    "a host that begins like the loopback address": ("http://127.0.0.1.evil.example", OWN),
    "a short loopback address": ("http://127.1", OWN),
    "a loopback address as one number": ("http://2130706433", OWN),
    "a hexadecimal loopback address": ("http://0x7f.0.0.1", OWN),
    "an octal loopback address": ("http://0177.0.0.1", OWN),
    "a loopback address with a zone": ("http://[::1%25lo]", OWN),
    "a private address": ("http://192.168.1.2", OWN),
    "the unspecified address": (f"http://0.0.0.0:{PORT}", OWN),
    "a browser extension": ("chrome-extension://abcdefghijklmnop", OWN),
    "an app on localhost": ("capacitor://localhost", OWN),
    "no ASCII": ("http://\xff\xfe", OWN),
    "a letter that becomes ASCII in lower case": ("http://localhost.\xe5", OWN),
    "two in one": ("http://localhost, https://evil.example", OWN),
    "the server's own over TLS": (f"https://mahavishnu.example:{PORT}", f"mahavishnu.example:{PORT}"),
    # A name that was made to resolve to this machine (DNS rebinding).
    "the same host as the request, which is not allowed": ("http://evil.example", "evil.example"),
    "the same host as the request, with the server's port": (f"http://evil.example:{PORT}", f"evil.example:{PORT}"),
}
NOT_LISTED: Cases = {
    "a listed host on another port": ("https://app.example:444", OWN),
    "a listed host over another scheme": ("http://app.example", OWN),
    "a listed host with more before it": ("https://evil-app.example", OWN),
    "a listed host with more after it": ("https://app.example.evil.example", OWN),
    "a listed one with a path": ("https://app.example/evil", OWN),
    "below a host that is listed without a wildcard": ("https://a.app.example", OWN),
    "the name of a listed wildcard": ("https://apps.example", OWN),
    "a name that ends like a listed wildcard": ("https://evilapps.example", OWN),
    "below a listed wildcard, over another scheme": ("http://a.apps.example", OWN),
    "a listed wildcard itself": ("https://*.apps.example", OWN),
    "the same host with another port": ("http://mahavishnu.example", "mahavishnu.example:8690"),
    "the same host with another scheme": ("https://mahavishnu.example", "mahavishnu.example"),
    "the same host with the port of another scheme": ("http://mahavishnu.example:443", "mahavishnu.example"),
}

MALFORMED = {
    "empty": "",
    "no URL": "localhost",
    "half an IPv6 address": "http://[::1",
    "IPv6 without brackets": "http://::1",
    "a port that is too large": "http://localhost:65536",
}


@pytest.fixture(scope="module")
def server(start_module_server: StartServer) -> MahavishnuServer:
    """Give a server with default settings, which only this machine can reach."""
    return start_module_server()


@pytest.fixture(scope="module")
def exposed_server(start_module_server: StartServer) -> MahavishnuServer:
    return start_module_server(
        environment={
            "MAHAVISHNU_ALLOWED_ORIGINS": LISTED,
            "ALLOWED_HOSTS": HOSTS,
            "MAHAVISHNU_PAGES_PORT": str(PAGES_PORT),
            "MAHAVISHNU_OPEN_TO_EVERYONE": "1",
        }
    )


def handshake(server: MahavishnuServer, *, origin: str | None, host: str, path: str = "/") -> int:
    """Request a WebSocket and return the status code of the answer."""

    def fill(text: str) -> str:
        return text.replace(OWN, f"{HOST}:{server.port}").replace(PORT, str(server.port))

    headers = {"Host": fill(host), **({} if origin is None else {"Origin": fill(origin)})}
    with socket.create_connection((HOST, server.port), timeout=60) as connection:
        return upgrade(connection, headers, path=path)


def statuses(server: MahavishnuServer, cases: Cases) -> dict[str, int]:
    return {name: handshake(server, origin=origin, host=host) for name, (origin, host) in cases.items()}


def on_this_machine(cases: Cases) -> Cases:
    """Return the cases with a loopback host."""
    return {name: (origin, host) for name, (origin, host) in cases.items() if host.startswith((OWN, "localhost"))}


def assert_all_rejected(server: MahavishnuServer, cases: Cases) -> None:
    log_before = server.log_text()
    assert statuses(server, cases) == dict.fromkeys(cases, 403)
    log = server.log_text().removeprefix(log_before)
    assert "Traceback" not in log
    for origin, _ in cases.values():
        assert origin is not None
        assert f"origin {origin.replace(PORT, str(server.port))!r} is neither this server's own" in log


def test_loopback_server_accepts_every_page_of_this_machine(server: MahavishnuServer) -> None:
    cases = on_this_machine(ABSENT | OWN_ORIGINS | LOOPBACK)
    assert statuses(server, cases) == dict.fromkeys(cases, 101)


def test_loopback_server_answers_421_to_other_hosts(server: MahavishnuServer) -> None:
    every = ABSENT | NEVER_ALLOWED | LISTED_ORIGINS
    cases = {name: case for name, case in every.items() if name not in on_this_machine(every)}
    assert statuses(server, cases) == dict.fromkeys(cases, 421)


def test_exposed_server_accepts_its_own_and_listed_origins(exposed_server: MahavishnuServer) -> None:
    cases = ABSENT | OWN_ORIGINS | OWN_PAGES | LISTED_ORIGINS
    assert statuses(exposed_server, cases) == dict.fromkeys(cases, 101)


def test_loopback_server_rejects_other_origins_with_403_and_a_log_line(server: MahavishnuServer) -> None:
    assert_all_rejected(server, on_this_machine(NEVER_ALLOWED | LISTED_ORIGINS))


def test_exposed_server_rejects_other_origins_with_403_and_a_log_line(exposed_server: MahavishnuServer) -> None:
    assert_all_rejected(exposed_server, NEVER_ALLOWED | NOT_LISTED | OTHER_PAGES | LOOPBACK)


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


def test_own_origin_has_the_scheme_of_the_client_over_tls_and_behind_a_proxy(
    server: MahavishnuServer, tmp_path: Path
) -> None:
    plain, tls = free_port(), free_port()
    certificate = write_certificate(tmp_path)
    endpoints = (
        f"--endpoint=tcp:port={plain}:interface={HOST}",
        f"--endpoint=ssl:port={tls}:interface={HOST}:privateKey={certificate}:certKey={certificate}",
    )
    arguments = ("--verbosity", "0", "--proxy-headers", *endpoints, "mahavishnu_site.asgi:application")
    trust = ssl.create_default_context(cafile=str(certificate))
    proxy = {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https"}
    hosts = {"ALLOWED_HOSTS": "127.0.0.1,mahavishnu.example", "MAHAVISHNU_OPEN_TO_EVERYONE": "1"}

    def over_tls(scheme: str) -> int:
        with (
            socket.create_connection((HOST, tls), timeout=60) as connection,
            trust.wrap_socket(connection, server_hostname="localhost") as secure,
        ):
            return upgrade(secure, {"Host": "mahavishnu.example", "Origin": f"{scheme}://mahavishnu.example"})

    def over_proxy(scheme: str, forwarded: dict[str, str]) -> int:
        with socket.create_connection((HOST, plain), timeout=60) as connection:
            origin = f"{scheme}://mahavishnu.example"
            return upgrade(connection, {"Host": "mahavishnu.example", "Origin": origin, **forwarded})

    with run_command(server, "daphne", *arguments, port=plain, **hosts):
        assert [over_tls(scheme) for scheme in ("https", "http")] == [101, 403]
        assert [over_proxy(scheme, proxy) for scheme in ("https", "http")] == [101, 403]
        assert [over_proxy(scheme, {}) for scheme in ("https", "http")] == [403, 101]
