"""What counts as loopback, what exposes a server, and what an exposed or open server does."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from realtime.daphne_server import listening_sockets
from realtime.daphne_server.listening_sockets import addresses_beyond_loopback, addresses_of_process
from realtime.exposure import CONFIGURATION_ERROR_EXIT_CODE, OPEN_PROBLEM, is_exposed, is_loopback
from tests.daphne_server.endpoints import run_command, status_and_headers
from tests.harness.client import connect
from tests.harness.fixtures import StartServer
from tests.harness.ports import HOST
from tests.harness.programs import run_to_end
from tests.harness.server import MahavishnuServer
from tests.site.check_command import run_check

APPLICATION = "mahavishnu_site.asgi:application"

LOOPBACK = [
    "localhost",
    "LOCALHOST",
    "localhost.",
    "app.localhost",
    "a.b-c.localhost",
    "127.0.0.1",
    "127.255.1.2",
    "::1",
    "[::1]",
    "0:0:0:0:0:0:0:1",
    "::ffff:127.0.0.1",
]
ELSEWHERE = [
    "",
    ".",
    "*",
    ".localhost",
    "..localhost",
    "local host.localhost",
    "evil.example\\@x.localhost",
    "localhost..",
    "localhost.example",
    "notlocalhost",
    "127.0.0.1.example",
    "127.1",
    "127.0.0.1.",
    "0127.0.0.1",
    "0.0.0.0",
    "::",
    "[::1",
    "::1%eth0",
    "::ffff:192.0.2.1",
    "192.0.2.1",
    "localhost:80",
]


@pytest.mark.parametrize("host", LOOPBACK)
def test_is_loopback_accepts_what_never_leaves_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ELSEWHERE)
def test_is_loopback_rejects_everything_else(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("hosts", "exposed"),
    [
        ([], False),
        (["127.0.0.1", "localhost", "[::1]", ".localhost", "*.localhost"], False),
        (["localhost", "0.0.0.0"], True),
        (["*"], True),
        ([".example.org"], True),
        (["*.example.org"], True),
    ],
)
def test_is_exposed_if_any_host_is_not_loopback(hosts: list[str], exposed: bool) -> None:
    assert is_exposed(hosts) is exposed


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAHAVISHNU_HOST", "0.0.0.0"),
        ("ALLOWED_HOSTS", "localhost,mahavishnu.example"),
        ("MAHAVISHNU_ALLOWED_ORIGINS", "http://localhost:3000,https://app.example"),
    ],
)
def test_deploy_check_rejects_an_exposed_server_without_credentials(name: str, value: str, tmp_path: Path) -> None:
    done = run_check(tmp_path, "--deploy", **{name: value})
    assert "mahavishnu.E001" in done.stderr


def test_deploy_check_says_nothing_about_loopback(tmp_path: Path) -> None:
    done = run_check(
        tmp_path,
        "--deploy",
        MAHAVISHNU_HOST="::1",
        ALLOWED_HOSTS=".localhost,127.0.0.1",
        MAHAVISHNU_ALLOWED_ORIGINS="http://[::1]:3000",
    )
    assert "mahavishnu.E001" not in done.stderr


# --- The start of a process -----------------------------------------------------------------------------------------


@pytest.fixture
def server(start_server: StartServer) -> MahavishnuServer:
    """Provide the environment of servers that the test starts itself."""
    return start_server(started=False)


def start_and_fail(server: MahavishnuServer, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command that has to exit by itself."""
    return run_to_end("-m", *command, environment={**server.environment, **variables})


@pytest.mark.parametrize(
    ("options", "variables", "reason"),
    [
        (["--bind", "0.0.0.0"], {}, "it listens on 0.0.0.0:PORT"),
        (["--proxy-headers"], {}, "daphne has --proxy-headers"),
        ([], {"ALLOWED_HOSTS": "mahavishnu.example"}, "names more than this machine"),
    ],
)
def test_exposed_server_without_credentials_exits_with_one_sentence(
    server: MahavishnuServer, options: list[str], variables: dict[str, str], reason: str
) -> None:
    done = start_and_fail(
        server, "daphne", "--verbosity", "0", *options, "--port", str(server.port), APPLICATION, **variables
    )
    assert done.returncode == CONFIGURATION_ERROR_EXIT_CODE
    (line,) = done.stderr.splitlines()
    assert reason.replace("PORT", str(server.port)) in line
    assert "set MAHAVISHNU_REQUIRE_AUTH=1" in line


def test_serve_ends_with_the_sentence(server: MahavishnuServer) -> None:
    done = start_and_fail(server, "mahavishnu_site", "serve", MAHAVISHNU_HOST="0.0.0.0")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "set MAHAVISHNU_REQUIRE_AUTH=1" in line


def test_processes_on_one_socket_are_not_restarted(server: MahavishnuServer) -> None:
    daphne = (sys.executable, "-m", "daphne", "--verbosity", "0", "--fd", "0", "--proxy-headers", APPLICATION)
    done = start_and_fail(server, "mahavishnu_site.serve.prefork", *daphne, MAHAVISHNU_PROCESSES="1")
    assert done.returncode == CONFIGURATION_ERROR_EXIT_CODE
    assert done.stderr.count("set MAHAVISHNU_REQUIRE_AUTH=1") == 1
    assert "exited with code 78 at its first start; stopping all other programs" in done.stderr


def test_uvicorn_without_credentials_exits_with_one_sentence(server: MahavishnuServer) -> None:
    done = start_and_fail(server, "uvicorn", "--host", "0.0.0.0", "--port", str(server.port), APPLICATION)
    assert done.returncode == CONFIGURATION_ERROR_EXIT_CODE
    assert "set MAHAVISHNU_REQUIRE_AUTH=1" in done.stderr


def test_socket_beyond_loopback_requires_tls_for_pages(server: MahavishnuServer) -> None:
    """The settings name this machine only, so nothing but the socket shows that the server is exposed."""
    options = ("--verbosity", "0", "--bind", "0.0.0.0", "--port", str(server.port))
    with run_command(server, "daphne", *options, APPLICATION, port=server.port, MAHAVISHNU_OPEN_TO_EVERYONE="1"):
        moved = status_and_headers(server, "/admin/login/")
        assert (moved[0], moved[1]["Location"]) == (301, f"https://{HOST}:{server.port}/admin/login/")
    assert "Open to everyone" in (server.var_dir / "daphne.log").read_text()


def test_only_tcp_sockets_beyond_loopback_expose(tmp_path: Path) -> None:
    with (
        socket.create_server(("0.0.0.0", 0)) as everywhere,
        socket.create_server((HOST, 0)) as loopback,
        socket.create_server(str(tmp_path / "socket"), family=socket.AF_UNIX) as unix_socket,
        socket.socket() as silent,
    ):
        silent.bind(("0.0.0.0", 0))
        port = everywhere.getsockname()[1]
        found = [list(addresses_beyond_loopback(each.fileno())) for each in (everywhere, loopback, unix_socket, silent)]
        assert found == [[f"0.0.0.0:{port}"], [], [], []]
        assert f"0.0.0.0:{port}" in addresses_of_process([])


def test_look_at_open_files_leaves_them_as_they_are() -> None:
    with socket.create_server((HOST, 0)) as listening, tempfile.TemporaryFile() as file:
        addresses_of_process([])
        assert descriptors_of_same_file(listening.fileno()) == [listening.fileno()]
        assert descriptors_of_same_file(file.fileno()) == [file.fileno()]


def descriptors_of_same_file(number: int) -> list[int]:
    """Return the open files of this process that are the same as this one."""
    found = []
    for name in os.listdir("/dev/fd"):
        with suppress(OSError):  # The folder was open while it was listed.
            if os.path.sameopenfile(int(name), number):
                found.append(int(name))
    return found


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--host", "0.0.0.0", "--port", "80"], ["0.0.0.0"]),
        (["--host=::"], ["::"]),
        (["--host", "127.0.0.1"], []),
        (["--port", "80"], []),
    ],
)
def test_option_of_another_server_exposes(
    arguments: list[str], found: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(listening_sockets, "_FILES", str(tmp_path))
    assert addresses_of_process(arguments) == found


def health_of(server: MahavishnuServer) -> dict[str, Any]:
    with urllib.request.urlopen(f"{server.http_url}/health") as answer:
        health: dict[str, Any] = json.load(answer)
    return health


# --- Open to everyone -----------------------------------------------------------------------------------------------


async def test_health_and_log_say_that_the_server_is_open_to_everyone(start_server: StartServer) -> None:
    server = start_server(
        environment={"ALLOWED_HOSTS": "127.0.0.1,mahavishnu.example", "MAHAVISHNU_OPEN_TO_EVERYONE": "1"}
    )
    assert server.log_text().count("Open to everyone") == 1
    health = await asyncio.to_thread(health_of, server)
    assert (health["status"], health["problems"]) == ("healthy", [OPEN_PROBLEM])
    async with connect(server) as client:
        status = await client.request("get_server_status")
    assert (status["data"]["status"], status["data"]["problems"]) == ("healthy", [OPEN_PROBLEM])


def test_server_on_loopback_logs_nothing_about_access(start_server: StartServer) -> None:
    assert "Open to everyone" not in start_server().log_text()
