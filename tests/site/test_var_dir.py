"""The folder of one installation, and the secrets and sockets in it."""

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
    EmptySecretKeyError,
    UnsafeDirectoryError,
    ensure_socket_directory,
    secret_key,
    valkey_socket,
    valkey_url,
)
from tests.harness.server import clean_environment
from tests.harness.services import PROJECT_DIR

RACING_PROCESSES = 6


def test_the_secret_key_is_made_once_and_for_this_user_alone(tmp_path: Path) -> None:
    key = secret_key(tmp_path)
    assert len(key) >= 64
    assert secret_key(tmp_path) == key
    assert [path.name for path in tmp_path.iterdir()] == ["secret_key"]
    assert (tmp_path / "secret_key").stat().st_mode & 0o777 == 0o600


def test_two_folders_have_two_keys(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    assert secret_key(tmp_path) != secret_key(tmp_path / "other")


def test_processes_that_race_for_the_secret_key_agree_on_it(tmp_path: Path) -> None:
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


def test_an_empty_secret_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret_key").touch()
    with pytest.raises(EmptySecretKeyError, match="remove it, and a new key is made"):
        secret_key(tmp_path)


def test_the_valkey_socket_is_in_the_folder(tmp_path: Path) -> None:
    assert valkey_socket(Path("/srv/var")) == Path("/srv/var/valkey.sock")
    assert valkey_url(Path("/srv/my var")) == "unix:///srv/my%20var/valkey.sock"


def folder_of(length: int) -> Path:
    """Return a path whose socket's path is `length` bytes long."""
    return Path("/" + "a" * (length - len("//valkey.sock")))


def test_a_folder_is_used_itself_as_long_as_its_socket_s_path_fits() -> None:
    longest = folder_of(MAX_SOCKET_PATH_BYTES)
    assert valkey_socket(longest) == longest / "valkey.sock"


def test_a_folder_too_deep_for_a_socket_has_a_short_one_of_its_own() -> None:
    deep = folder_of(MAX_SOCKET_PATH_BYTES + 1)
    socket = valkey_socket(deep)
    assert socket == valkey_socket(deep)
    assert socket != valkey_socket(deep / "other")
    assert len(os.fsencode(socket)) <= MAX_SOCKET_PATH_BYTES


def test_the_length_of_a_path_is_counted_in_bytes() -> None:
    deep = Path("/" + "é" * (MAX_SOCKET_PATH_BYTES // 2))
    assert valkey_socket(deep) != deep / "valkey.sock"


@pytest.fixture
def short_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """The folder that stands in for a deep one, in a place of the test's own."""
    monkeypatch.setattr(var_dir, "SHORT_PATHS_DIR", tmp_path)
    yield valkey_socket(folder_of(200)).parent
    shutil.rmtree(tmp_path)


def test_the_short_folder_is_closed_to_others(short_directory: Path) -> None:
    ensure_socket_directory(short_directory / "valkey.sock")
    assert short_directory.stat().st_mode & 0o777 == 0o700
    ensure_socket_directory(short_directory / "valkey.sock")


def test_a_short_folder_that_is_open_to_others_is_refused(short_directory: Path) -> None:
    short_directory.mkdir()
    short_directory.chmod(0o755)
    with pytest.raises(UnsafeDirectoryError, match="expected a folder of this user alone"):
        ensure_socket_directory(short_directory / "valkey.sock")


def test_a_short_folder_that_is_a_link_elsewhere_is_refused(short_directory: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    short_directory.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafeDirectoryError):
        ensure_socket_directory(short_directory / "valkey.sock")
