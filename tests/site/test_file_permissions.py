"""Files of the var folder are closed to other users of the machine, under any umask and for files that exist."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mahavishnu_site.var_dir import UnsafeDirectoryError, close_files, ensure_directory
from tests.harness.programs import PROJECT_DIR
from tests.harness.server import clean_environment

OWN_NAMES = (
    "mahavishnu.sqlite3",
    "mahavishnu.sqlite3-wal",
    "mahavishnu.sqlite3-shm",
    "mahavishnu.sqlite3-epoch",
    "test.sqlite3",
    "secret_key",
    ".secret_key.1234.ab12",
    "jwks-0123456789abcdef.json",
    ".jwks-0123456789abcdef.json.1234.5678",
    "websocket.log",
    "websocket.log.1",
    "valkey.log",
)

WRITE_AN_EVENT = (
    "from orchestration import services; services.create_pool(pool_id='p'); import logging; logging.error('x')"
)


def run(var_dir: Path, *arguments: str, umask: str = "000") -> subprocess.CompletedProcess[str]:
    """Run `manage.py` with this var folder and umask."""
    return subprocess.run(
        ["sh", "-c", f'umask {umask} && exec "$0" manage.py "$@"', sys.executable, *arguments],
        cwd=PROJECT_DIR,
        env={**clean_environment(), "MAHAVISHNU_VAR_DIR": str(var_dir)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def open_to_others(folder: Path) -> list[str]:
    """Return the folder and the files in it that others may read, write or execute."""
    return [str(path) for path in (folder, *folder.rglob("*")) if stat.S_IMODE(path.lstat().st_mode) & 0o077]


def test_all_files_are_closed_under_an_open_umask(tmp_path: Path) -> None:
    var_dir = tmp_path / "var"
    assert run(var_dir, "migrate", "--verbosity", "0").stderr == ""
    assert run(var_dir, "shell", "--verbosity", "0", "-c", WRITE_AN_EVENT).returncode == 0
    assert {"mahavishnu.sqlite3", "secret_key", "websocket.log"} <= {path.name for path in var_dir.iterdir()}
    assert open_to_others(var_dir) == []


def test_files_that_others_could_read_are_closed_at_the_next_start(tmp_path: Path) -> None:
    ensure_directory(tmp_path)
    for name in OWN_NAMES:
        (tmp_path / name).touch()
        (tmp_path / name).chmod(0o666)
    for name in ("tool.sh", "manage.py", "catalog", "secret_keys"):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(0o755)
    (tmp_path / "link.log").symlink_to("/etc/hostname")
    mode = Path("/etc/hostname").stat().st_mode
    close_files(tmp_path)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert [name for name in OWN_NAMES if modes[name] != 0o600] == []
    assert [modes[name] for name in ("tool.sh", "manage.py", "catalog", "secret_keys")] == [0o755] * 4
    assert Path("/etc/hostname").stat().st_mode == mode


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_folder_that_others_may_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    var_dir = tmp_path / "var"
    var_dir.mkdir()
    var_dir.chmod(mode)
    with pytest.raises(UnsafeDirectoryError, match=r"can be written to by other users; run `chmod 700`$"):
        ensure_directory(var_dir)
    result = run(var_dir, "check")
    assert result.returncode == 1
    assert "MAHAVISHNU_VAR_DIR" in result.stderr
    assert result.stderr.count("expected") == 1
    assert f"({var_dir} can be written to by other users; run `chmod 700`)" in result.stderr
    assert "Traceback" not in result.stderr
