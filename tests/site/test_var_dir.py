"""The var folder, its secret key and its socket."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mahavishnu_site import var_dir
from mahavishnu_site.var_dir import (
    MAX_SOCKET_PATH_BYTES,
    UnsafeDirectoryError,
    UnusableSecretKey,
    ensure_socket_directory,
    secret_key,
    valkey_socket,
    valkey_url,
)
from tests.harness.programs import PROJECT_DIR
from tests.harness.server import clean_environment

RACING_PROCESSES = 6


def test_secret_key_is_created_once_and_private(tmp_path: Path) -> None:
    key = secret_key(tmp_path)
    assert len(key) >= 64
    assert secret_key(tmp_path) == key
    assert [path.name for path in tmp_path.iterdir()] == ["secret_key"]
    assert (tmp_path / "secret_key").stat().st_mode & 0o777 == 0o600


def test_secret_key_differs_between_folders(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    assert secret_key(tmp_path) != secret_key(tmp_path / "other")


def test_secret_key_is_the_same_for_processes_that_create_it_at_once(tmp_path: Path) -> None:
    # All wait for the same line of input, so that they start together.
    code = "import sys, pathlib; from mahavishnu_site.var_dir import secret_key; input(); "
    code += "print(secret_key(pathlib.Path(sys.argv[1])))"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            cwd=PROJECT_DIR,
            env=clean_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(RACING_PROCESSES)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    keys = {process.communicate(timeout=30)[0].strip() for process in processes}
    assert keys == {secret_key(tmp_path)}
    assert [path.name for path in tmp_path.iterdir()] == ["secret_key"]


def test_secret_key_rejects_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "secret_key").touch()
    with pytest.raises(UnusableSecretKey, match=r"secret_key is not usable \(empty\)$"):
        secret_key(tmp_path)


def test_secret_key_rejects_a_file_that_is_not_ascii(tmp_path: Path) -> None:
    (tmp_path / "secret_key").write_bytes(b"\xff" * 64)
    with pytest.raises(UnusableSecretKey, match=r"secret_key is not usable \(not ASCII\)$"):
        secret_key(tmp_path)


def test_secret_key_rejects_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    # Root may read every file, but not a folder.
    (tmp_path / "secret_key").mkdir()
    with pytest.raises(UnusableSecretKey, match=r"secret_key is not usable \(Is a directory\)$"):
        secret_key(tmp_path)


def test_valkey_socket_is_in_the_var_dir(tmp_path: Path) -> None:
    assert valkey_socket(Path("/srv/var")) == Path("/srv/var/valkey.sock")
    assert valkey_url(Path("/srv/my var")) == "unix:///srv/my%20var/valkey.sock"


def folder_of(length: int) -> Path:
    """Return a path whose socket's path is `length` bytes long."""
    return Path("/" + "a" * (length - len("//valkey.sock")))


def test_valkey_socket_is_in_the_var_dir_up_to_the_longest_path() -> None:
    longest = folder_of(MAX_SOCKET_PATH_BYTES)
    assert valkey_socket(longest) == longest / "valkey.sock"


def test_valkey_socket_is_in_a_short_folder_when_the_path_is_too_long() -> None:
    deep = folder_of(MAX_SOCKET_PATH_BYTES + 1)
    socket = valkey_socket(deep)
    assert socket == valkey_socket(deep)
    assert socket != valkey_socket(deep / "other")
    assert len(os.fsencode(socket)) <= MAX_SOCKET_PATH_BYTES


def test_valkey_socket_counts_the_path_in_bytes() -> None:
    deep = Path("/" + "é" * (MAX_SOCKET_PATH_BYTES // 2))
    assert valkey_socket(deep) != deep / "valkey.sock"


@pytest.fixture
def short_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Give the short folder that replaces a deep one, inside `tmp_path`."""
    monkeypatch.setattr(var_dir, "SHORT_PATHS_DIR", tmp_path)
    yield valkey_socket(folder_of(200)).parent
    shutil.rmtree(tmp_path)


def test_ensure_socket_directory_creates_a_private_folder(short_directory: Path) -> None:
    ensure_socket_directory(short_directory / "valkey.sock")
    assert short_directory.stat().st_mode & 0o777 == 0o700
    ensure_socket_directory(short_directory / "valkey.sock")


def test_ensure_socket_directory_rejects_a_folder_open_to_others(short_directory: Path) -> None:
    short_directory.mkdir()
    short_directory.chmod(0o755)
    with pytest.raises(UnsafeDirectoryError, match=r"is open to other users; run `chmod 700`$"):
        ensure_socket_directory(short_directory / "valkey.sock")


def test_ensure_socket_directory_rejects_a_link(short_directory: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    short_directory.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafeDirectoryError):
        ensure_socket_directory(short_directory / "valkey.sock")
