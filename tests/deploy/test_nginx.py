"""`deploy/nginx.conf`: what it contains and, with `make chaos`, what a real nginx does with it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import socket
import ssl
import subprocess
import warnings
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mahavishnu_site.dev_certificate import write_certificate
from realtime.limits import Limits
from tests.daphne_server.endpoints import run_command
from tests.harness.client import connect
from tests.harness.fixtures import StartServer
from tests.harness.listener import close_listener
from tests.harness.ports import HOST, free_port
from tests.harness.programs import PROJECT_DIR
from tests.harness.tokens import REQUIRES_AUTH, token
from tests.harness.waiting import eventually

CONFIGURATION = (PROJECT_DIR / "deploy" / "nginx.conf").read_text(encoding="utf-8")
NAME = "mahavishnu.example.org"
APPLICATION = "mahavishnu_site.asgi:application"
LIMIT_SECONDS = 30


@pytest.mark.parametrize(
    "directive",
    [
        'proxy_set_header Daphne-Root-Path "";',
        "proxy_set_header X-Forwarded-For $remote_addr;",
        "proxy_set_header X-Forwarded-Proto $scheme;",
        "proxy_set_header Host $http_host;",
        "ssl_protocols       TLSv1.2 TLSv1.3;",
        "server_tokens off;",
        'add_header Strict-Transport-Security "max-age=31536000" always;',
        "ssl_reject_handshake on;",
        "return 444;",
    ],
)
def test_configuration_has_the_directive(directive: str) -> None:
    assert directive in CONFIGURATION


def test_configuration_fits_the_limits_and_logs_no_credentials() -> None:
    assert f"client_max_body_size {Limits().max_body_bytes // 2**20}m;" in CONFIGURATION
    assert f"limit_conn mahavishnu_connections {Limits().max_connections_per_address};" in CONFIGURATION
    assert f"rate={Limits().max_connects_per_second:g}r/s;" in CONFIGURATION
    assert f"burst={Limits().max_connect_burst} nodelay;" in CONFIGURATION
    (logged,) = re.findall(r"log_format mahavishnu '(.*)';", CONFIGURATION)
    assert not re.search(r"\$(request\b|request_uri|args|query_string|http_|arg_|cookie_|sent_http_)", logged)
    servers = CONFIGURATION.split("\nserver {")[1:]
    assert len(servers) == 3
    # Without one, the format of nginx.conf applies, which has the query.
    assert [re.findall(r"access_log (.*);", server) for server in servers] == [
        ["off"],
        *[["/var/log/nginx/mahavishnu.log mahavishnu"]] * 2,
    ]
    # A location with an `add_header` would lose the one of its server.
    assert CONFIGURATION.count("add_header") == 1


# --- A real nginx ---------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Proxy:
    """A running nginx; `pages` are the heads of the requests that it sent to the pages."""

    plain: int
    tls: int
    context: ssl.SSLContext
    folder: Path
    pages: list[str] = field(default_factory=list)

    async def answer(
        self, target: str, *headers: str, method: str = "GET", host: str = NAME, body: bytes = b"", plain: bool = False
    ) -> str:
        """Send one request, and return the head of the answer; empty if there is none."""
        options = {} if plain else {"ssl": self.context, "server_hostname": host}
        reader, writer = await asyncio.open_connection(HOST, self.plain if plain else self.tls, **options)  # type: ignore[arg-type]
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *headers]
        if not any(line.startswith("Connection:") for line in headers):
            lines.append("Connection: close")
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        try:
            async with asyncio.timeout(LIMIT_SECONDS):
                return (await reader.readuntil(b"\r\n\r\n")).decode()
        except asyncio.IncompleteReadError as error:
            return error.partial.decode()
        finally:
            writer.transport.abort()

    async def status(self, target: str, *headers: str, **options: str) -> int:
        return int((await self.answer(target, *headers, **options)).split()[1])  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def nginx(tmp_path: Path, *, websocket_port: int, administrators: str) -> AsyncIterator[Proxy]:
    """Run nginx with the file, its ports and paths replaced. Pages are answered by a server of the test."""
    files = write_certificate(tmp_path / "tls", [NAME])
    context = ssl.create_default_context(cafile=str(files.authority))
    proxy = Proxy(plain=free_port(), tls=free_port(), context=context, folder=tmp_path)

    async def page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            proxy.pages.append((await reader.readuntil(b"\r\n\r\n")).decode())
            writer.write(b"HTTP/1.1 200 OK\r\nStrict-Transport-Security: max-age=1\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(page, HOST, 0)
    replaced = {
        "listen 80": f"listen {HOST}:{proxy.plain}",
        "listen 443": f"listen {HOST}:{proxy.tls}",
        "127.0.0.1:8690": f"{HOST}:{websocket_port}",
        "127.0.0.1:8691": f"{HOST}:{server.sockets[0].getsockname()[1]}",
        "/etc/ssl/mahavishnu.pem": str(files.certificate),
        "/etc/ssl/mahavishnu.key": str(files.key),
        "/var/log/nginx/mahavishnu.log": f"{tmp_path}/access.log",
        "192.0.2.0/24": administrators,
    }
    text = CONFIGURATION
    for old, new in replaced.items():
        assert old in text, old
        text = text.replace(old, new)
    temporary = "".join(
        f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;\n" if os.geteuid() == 0 else ""
    main = tmp_path / "main.conf"
    main.write_text(
        f"{user}daemon off;\npid {tmp_path}/pid;\nerror_log {tmp_path}/error.log;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{temporary}{text}\n}}\n"
    )
    command = ["nginx", "-p", str(tmp_path), "-e", f"{tmp_path}/error.log", "-c", str(main)]
    process = start(command)
    try:
        await eventually(lambda: accepts(proxy.tls), within_seconds=LIMIT_SECONDS)
        yield proxy
    finally:
        process.terminate()
        process.wait(LIMIT_SECONDS)
        await close_listener(server)


def start(command: list[str]) -> subprocess.Popen[bytes]:
    tested = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stderr
    return subprocess.Popen(command)


def accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=5):
        return True
    return False


HANDSHAKE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)

# Collected only where it can run: a skipped test fails under CI.
if shutil.which("nginx"):

    @pytest.mark.chaos
    async def test_nginx_serves_websockets_and_guards_pages(start_server: StartServer, tmp_path: Path) -> None:
        server = start_server(started=False)
        variables = {"ALLOWED_HOSTS": f"{HOST},{NAME}", **REQUIRES_AUTH}
        daphne = ("daphne", "--verbosity", "0", "--proxy-headers", "--bind", HOST, "--port", str(server.port))
        with run_command(server, *daphne, APPLICATION, port=server.port, **variables):
            async with nginx(tmp_path, websocket_port=server.port, administrators="192.0.2.0/24") as proxy:
                await check_websocket(proxy)
                await check_hosts_and_tls(proxy)
                await check_pages(proxy)
                await check_access_log(proxy)
                await check_limits(proxy)

    @pytest.mark.chaos
    async def test_server_without_credentials_answers_421_behind_nginx(
        start_server: StartServer, tmp_path: Path
    ) -> None:
        """The proxy was put in front of a server that serves its own machine."""
        server = start_server()
        async with nginx(tmp_path, websocket_port=server.port, administrators="127.0.0.0/8") as proxy:
            assert await proxy.status("/", *HANDSHAKE) == 421
            assert await proxy.status("/health") == 421
            assert await proxy.status("/admin/") == 200  # of the test's own pages
        assert "Refused a request from" in server.log_text()


async def check_websocket(proxy: Proxy) -> None:
    value = token("global:read", user_id="secret-in-protocol")
    async with connect(
        f"wss://{NAME}:{proxy.tls}/?page=secret-in-query",
        ssl=proxy.context,
        host=HOST,
        origin=f"https://{NAME}:{proxy.tls}",
        subprotocols=["mahavishnu.v1", f"bearer.{value}"],
    ) as client:
        await client.subscribe("global")


async def check_hosts_and_tls(proxy: Proxy) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await proxy.answer("/", host="other.example.org")
    assert await proxy.answer("/", plain=True, host="other.example.org") == ""
    assert await proxy.answer("/", plain=True, host=HOST) == ""
    moved = await proxy.answer("/a?b=secret-in-query", plain=True)
    assert f"Location: https://{NAME}/a?b=secret-in-query\r\n" in moved
    assert "Server: nginx\r\n" in moved
    found = {}
    for version in list(ssl.TLSVersion)[2:-1]:
        context = ssl.create_default_context(cafile=str(proxy.folder / "tls" / "authority.pem"))
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            context.minimum_version = context.maximum_version = version
        context.set_ciphers("DEFAULT@SECLEVEL=0")
        try:
            _, writer = await asyncio.open_connection(HOST, proxy.tls, ssl=context, server_hostname=NAME)
        except (ssl.SSLError, ConnectionError):
            continue
        found[version.name] = writer.get_extra_info("ssl_object").version()
        writer.transport.abort()
    assert found == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}


async def check_pages(proxy: Proxy) -> None:
    answer = await proxy.answer(
        "/api/v1/pools?limit=1",
        "Authorization: Bearer secret-in-header",
        "Daphne-Root-Path: /x",
        "X-Forwarded-For: 192.0.2.66",
        "X-Forwarded-Proto: http",
    )
    assert answer.startswith("HTTP/1.1 200 ")
    assert re.findall(r"^(Strict-Transport-Security: .*|Server: .*)\r$", answer, re.MULTILINE) == [
        "Server: nginx",
        "Strict-Transport-Security: max-age=31536000",
    ]
    head = proxy.pages[-1]
    assert head.startswith("GET /api/v1/pools?limit=1 HTTP/1.1\r\n")
    for line in (f"Host: {NAME}", f"X-Forwarded-For: {HOST}", "X-Forwarded-Proto: https"):
        assert f"{line}\r\n" in head
    assert "Authorization: Bearer secret-in-header\r\n" in head
    assert "root-path" not in head.lower()
    for target in ("/admin/", "/admin/login/", "//admin/", "/x/../admin/", "/%61dmin/", "/./admin/"):
        assert await proxy.status(target) == 403, target
    large = await proxy.answer("/api/v1/events", "Content-Length: 1048577", method="POST")
    assert large.startswith("HTTP/1.1 413 ")
    assert "Strict-Transport-Security: max-age=31536000\r\n" in large


async def check_access_log(proxy: Proxy) -> None:
    log = proxy.folder / "access.log"
    await eventually(lambda: '"GET /api/v1/pools" 200 ' in log.read_text(), within_seconds=LIMIT_SECONDS)
    assert '"GET / " 101' not in log.read_text()
    assert "secret" not in log.read_text()
    assert "bearer." not in log.read_text()


async def check_limits(proxy: Proxy) -> None:
    statuses = await asyncio.gather(*(proxy.status("/", "X: y") for _ in range(90)))
    for _ in range(3):
        statuses += await asyncio.gather(*(proxy.status("/", "X: y") for _ in range(90)))
    assert set(statuses) == {200, 429}
    # The average of the burst is over by then: one address does not block itself for long.
    await asyncio.sleep(0.2)
    assert await proxy.status("/") == 200
