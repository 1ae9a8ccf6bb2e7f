"""A server process raises its limit of open files, refuses too few, and reports when they run out."""

from __future__ import annotations

import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path

from tests.daphne_server.endpoints import run_command
from tests.harness.ports import HOST, free_port
from tests.harness.programs import PROJECT_DIR
from tests.harness.server import MahavishnuServer
from tests.harness.waiting import wait_until

APPLICATION = "mahavishnu_site.asgi:application"


def with_limits(soft: int, hard: int, *command: str) -> tuple[str, ...]:
    """Return a command that runs another one with these limits of open files."""
    return ("sh", "-c", f'ulimit -Sn {soft} && ulimit -Hn {hard} && exec "$@"', "sh", *command)


def test_server_with_too_few_files_is_refused_with_a_sentence(server: MahavishnuServer) -> None:
    result = subprocess.run(
        with_limits(256, 1063, "daphne", "-p", str(free_port()), APPLICATION),
        cwd=PROJECT_DIR,
        env=server.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 1
    assert "This process may open 1063 files, and 1000 connections need at least 1064." in result.stderr
    assert "Traceback" not in result.stderr


def test_soft_limit_is_raised_and_running_out_is_logged_once(server: MahavishnuServer) -> None:
    port = free_port()
    command = with_limits(100, 300, "daphne", "-b", HOST, "-p", str(port), "--verbosity", "0", APPLICATION)
    variables = {"MAHAVISHNU_MAX_CONNECTIONS": "200", "MAHAVISHNU_LOG_REPEAT_SECONDS": "3600"}
    with run_command(server, *command, port=port, **variables) as process:
        limits = Path(f"/proc/{process.pid}/limits").read_text()
        assert "Max open files            300                  300" in limits
        log_path = server.var_dir / "sh.log"
        with ExitStack() as connections:
            for _ in range(400):
                connections.enter_context(socket.create_connection((HOST, port)))
            wait_until(lambda: "run out of files" in log_path.read_text(), timeout_seconds=30, what=log_path.read_text)
        with ExitStack() as connections:
            for _ in range(400):
                connections.enter_context(socket.create_connection((HOST, port)))
        wait_until(lambda: answers(port), timeout_seconds=30, what="an answer after the files were closed")
        assert log_path.read_text().count("run out of files") == 1


def answers(port: int) -> bool:
    with socket.create_connection((HOST, port)) as connection:
        connection.settimeout(5)
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        try:
            return connection.recv(13) == b"HTTP/1.1 200 "
        except OSError:
            return False
