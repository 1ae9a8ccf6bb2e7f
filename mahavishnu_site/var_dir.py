"""The folder of one installation: its database, its secret key, its log and its Valkey socket."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path
from urllib.parse import quote

SECRET_KEY_BYTES = 48

# `sun_path` holds 108 bytes on Linux and 104 on macOS, and one of them ends the string (unix(7)).
MAX_SOCKET_PATH_BYTES = 103

# Not `tempfile.gettempdir()`: `TMPDIR` differs from shell to shell, and every process has to find the same socket.
SHORT_PATHS_DIR = Path("/tmp")


def base_dir() -> Path:
    """Return the folder where relative paths of variables start, and where `var` is by default.

    It is the project's folder in a checkout, and the current folder where the package is installed.
    """
    checkout = Path(__file__).resolve().parent.parent
    return checkout if (checkout / "manage.py").is_file() else Path.cwd()


class UnsafeDirectoryError(OSError):
    """Raised for a folder that others can write to or that somebody else made."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"{path} belongs to another user or is open to others: expected a folder of this user alone")


class EmptySecretKeyError(OSError):
    """Raised for a key file with nothing in it: signing with an empty key would be signing with none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"{path} is empty: remove it, and a new key is made at the next start")


def ensure_directory(path: Path) -> None:
    """Make the folder, closed to other users; one that is there already is left as it is.

    Raises:
        OSError: it cannot be made, or is no folder, or cannot be written to.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not os.access(path, os.W_OK | os.X_OK):
        raise PermissionError(f"{path} cannot be written to")


def secret_key(var_dir: Path) -> str:
    """Return the key of this installation, made at the first call.

    Processes may race for it: each writes a file of its own and links it to the name, which only one of them can do.

    Raises:
        OSError: the file cannot be read or made; `EmptySecretKeyError` when it has nothing in it.
    """
    path = var_dir / "secret_key"
    if not path.exists():
        own = var_dir / f".secret_key.{os.getpid()}.{secrets.token_hex(4)}"
        descriptor = os.open(own, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(secrets.token_urlsafe(SECRET_KEY_BYTES))
            os.link(own, path)
        except FileExistsError:
            pass  # Another process was first, and its key is the one.
        finally:
            own.unlink()
    key = path.read_text(encoding="ascii").strip()
    if not key:
        raise EmptySecretKeyError(path)
    return key


def valkey_socket(var_dir: Path) -> Path:
    """Return where the embedded Valkey of this folder listens.

    A folder too deep for a socket's path is stood in for by a short one, named after it.
    """
    path = var_dir / "valkey.sock"
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES:
        return path
    digest = hashlib.sha256(os.fsencode(var_dir)).hexdigest()[:16]
    return SHORT_PATHS_DIR / f"mahavishnu-{os.getuid()}-{digest}" / "valkey.sock"


def ensure_socket_directory(socket: Path) -> None:
    """Make the folder of a socket, and refuse one in a place where others could have made it first.

    Raises:
        UnsafeDirectoryError: the folder is somebody else's, or open to others.
    """
    ensure_directory(socket.parent)
    if socket.parent.parent != SHORT_PATHS_DIR:
        return
    status = socket.parent.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise UnsafeDirectoryError(socket.parent)


def valkey_url(var_dir: Path) -> str:
    return f"unix://{quote(str(valkey_socket(var_dir)))}"
