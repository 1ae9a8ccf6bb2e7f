"""What counts as loopback, and which settings expose a server."""

from __future__ import annotations

from pathlib import Path

import pytest

from realtime.exposure import is_exposed, is_loopback
from tests.harness.fixtures import StartServer
from tests.site.check_command import run_check

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
def test_deploy_check_warns_that_an_exposed_server_is_open_to_everyone(name: str, value: str, tmp_path: Path) -> None:
    done = run_check(tmp_path, "--deploy", **{name: value})
    assert "mahavishnu.W001" in done.stderr


def test_deploy_check_says_nothing_about_loopback(tmp_path: Path) -> None:
    done = run_check(
        tmp_path,
        "--deploy",
        MAHAVISHNU_HOST="::1",
        ALLOWED_HOSTS=".localhost,127.0.0.1",
        MAHAVISHNU_ALLOWED_ORIGINS="http://[::1]:3000",
    )
    assert "mahavishnu.W001" not in done.stderr


def test_exposed_server_logs_at_its_start_that_it_is_open_to_everyone(start_server: StartServer) -> None:
    server = start_server(environment={"ALLOWED_HOSTS": "127.0.0.1,mahavishnu.example"})
    assert server.log_text().count("Open to everyone") == 1


def test_server_on_loopback_logs_nothing_about_access(start_server: StartServer) -> None:
    assert "Open to everyone" not in start_server().log_text()
