"""What `manage.py serve` prints once the server answers."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from pytest_django import Settings

from mahavishnu_site.serve.banner import VARIABLES_OF_COMMANDS, banner, command
from mahavishnu_site.serve.readiness import Target, command_of
from tests.harness.ports import free_port
from tests.harness.programs import PROJECT_DIR
from tests.harness.serve import MANAGE, StartServe
from tests.harness.waiting import wait_until


def test_banner_names_the_page_first(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.MAHAVISHNU_PORT, settings.MAHAVISHNU_PAGES_PORT = 8690, 8691
    for name in VARIABLES_OF_COMMANDS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MAHAVISHNU_PORT", "8690")
    monkeypatch.setenv("SECRET_KEY", "secret")
    monkeypatch.setattr(sys, "executable", str(PROJECT_DIR / ".venv/bin/python"))
    monkeypatch.chdir(PROJECT_DIR)
    assert banner(processes=2, has_staff=False).splitlines() == [
        "Open http://127.0.0.1:8691/",
        "  WebSocket  ws://127.0.0.1:8690 with 2 processes",
        "  HTTP API   http://127.0.0.1:8691/api/docs",
        "  admin      http://127.0.0.1:8691/admin/",
        "  health     http://127.0.0.1:8690/health",
        f"  worker     pool local, {settings.MAHAVISHNU_ENGINE.worker_concurrency} stages at a time",
        f"  data       {settings.MAHAVISHNU_VAR_DIR}",
        "  try it     MAHAVISHNU_PORT=8690 .venv/bin/python manage.py run_workflow demo_retry --watch",
        "Create an account for the admin: MAHAVISHNU_PORT=8690 .venv/bin/python manage.py createsuperuser",
        "Ctrl-C stops it.",
    ]


def test_command_of_the_banner_runs_in_a_folder_without_manage_py(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", "/opt/a folder/python3")
    line = command("createsuperuser", {"MAHAVISHNU_VAR_DIR": "/var/my data"})
    assert line == "MAHAVISHNU_VAR_DIR='/var/my data' '/opt/a folder/python3' -m mahavishnu_site createsuperuser"


def test_serve_prints_the_banner_once_when_the_page_answers(serve: StartServe) -> None:
    run = serve(MANAGE, MAHAVISHNU_PAGES_PORT=str(free_port()))
    page = "Open http://127.0.0.1:"
    run.wait_for("Ctrl-C stops it.\n")
    lines = run.output().splitlines()
    (first,) = (number for number, line in enumerate(lines) if line.startswith(page))
    with urllib.request.urlopen(lines[first].removeprefix("Open ")) as answer:
        assert answer.status == 200
    assert lines[first + 1] == f"  WebSocket  {run.ws_url}"
    # The programs were started before, and the process that waited for them has ended.
    assert all(any(f"{name} started" in line for line in lines[:first]) for name in ("web", "pages", "worker"))
    wait_until(lambda: not run.processes_with("readiness"), timeout_seconds=60, what="the end of the process")
    run.main.send_signal(signal.SIGINT)
    run.wait_ended()
    assert run.main.returncode == 0


def test_banner_waits_for_the_page_and_the_websocket() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(20)
        port = silent.getsockname()[1]
        target = Target("127.0.0.1", "127.0.0.1", str(port), str(port), "/", "/ws", "0")
        with subprocess.Popen(
            command_of(target), cwd=PROJECT_DIR, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdin is not None
            process.stdin.write(b"ready\n")
            process.stdin.close()
            connection, _ = silent.accept()
            with connection:
                assert connection.recv(4096).startswith(b"GET / HTTP/1.1\r\n")
                connection.sendall(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
            for status in (b"200 OK", b"101 Switching Protocols"):
                connection, _ = silent.accept()
                with connection:
                    assert process.poll() is None
                    connection.recv(4096)
                    connection.sendall(b"HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n" % status)
            assert process.stdout is not None
            assert process.stdout.read() == b"ready\n"


@pytest.mark.parametrize("requires_tls", [False, True])
def test_banner_says_that_pages_need_tls(settings: Settings, requires_tls: bool) -> None:
    settings.MAHAVISHNU_REQUIRE_TLS = requires_tls
    line = (
        "Pages are redirected to https: set MAHAVISHNU_TLS_CERTIFICATE, put a TLS proxy in front, "
        "or set MAHAVISHNU_REQUIRE_TLS=false on a network that you trust.\n"
    )
    assert (line in banner(processes=1, has_staff=True)) is requires_tls
