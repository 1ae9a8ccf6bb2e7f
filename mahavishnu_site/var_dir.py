"""The folder of one installation: its database, its secret key, its log and its Valkey socket."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from django.core.checks.security.base import SECRET_KEY_INSECURE_PREFIX, SECRET_KEY_MIN_LENGTH

SECRET_KEY_BYTES = 48

MIN_DIFFERENT_CHARACTERS = 10
"""Django requires 5. Of 50 random hexadecimal digits, fewer than 10 differ once in 300 million keys."""

WRITABLE_BY_OTHERS = 0o022
OPEN_TO_OTHERS = 0o077

# What this project writes there: databases with their logs and their epoch, the key, public keys of the issuer of
# tokens, and logs with the old ones.
OWN_FILES = re.compile(
    r"(mahavishnu|test)\.sqlite3.*|secrets?_key|\.secrets?_key\..+|\.?jwks-.+\.json.*|.+\.log(\.[0-9]+)?", re.DOTALL
)

# `sun_path` has 108 bytes on Linux and 104 on macOS, including the terminating zero (unix(7)).
MAX_SOCKET_PATH_BYTES = 103

# Not `tempfile.gettempdir()`: `TMPDIR` differs between shells, and every process must find the same socket.
SHORT_PATHS_DIR = Path("/tmp")


def base_dir() -> Path:
    """Return the folder that relative paths in variables start at. It contains `var` by default.

    In a checkout it is the project's folder. If the package is installed, it is the current folder.
    """
    checkout = Path(__file__).resolve().parent.parent
    return checkout if (checkout / "manage.py").is_file() else Path.cwd()


class UnsafeDirectoryError(OSError):
    """Raised for a folder in which another user could replace files."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} {reason}; run `chmod 700`")


class UnusableSecretKey(OSError):
    """Raised for a key file that is empty, unreadable, not ASCII or easily guessed.

    Attributes:
        path: The file.
        reason: What is wrong with it.
    """

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path} is not usable ({reason})")


def ensure_directory(path: Path) -> None:
    """Create the folder, closed to other users; an existing folder is not changed.

    Raises:
        UnsafeDirectoryError: if others may write to it: they could replace the secret key.
        OSError: if it cannot be created or written to, or is not a folder.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not os.access(path, os.W_OK | os.X_OK):
        raise PermissionError(f"{path} cannot be written to")
    if path.stat().st_mode & WRITABLE_BY_OTHERS:
        raise UnsafeDirectoryError(path, "can be written to by other users")


def close_files(path: Path) -> None:
    """Take from others the permissions for our files in a folder. Other names and files of other users are left alone.

    An earlier version, a backup or another program may have made them readable. The folder may be one with more in it.
    """
    with os.scandir(path) as entries:
        for entry in entries:
            if OWN_FILES.fullmatch(entry.name) is None:
                continue
            with suppress(OSError):  # Another process may have removed it, or it belongs to another user.
                mode = entry.stat(follow_symlinks=False).st_mode
                if stat.S_ISREG(mode) and mode & OPEN_TO_OTHERS:
                    os.chmod(entry.path, stat.S_IMODE(mode) & ~OPEN_TO_OTHERS)


def is_readable_by_others(path: Path) -> bool:
    """Return whether other users may list the folder. Its files are closed to them nevertheless."""
    return bool(path.stat().st_mode & OPEN_TO_OTHERS)


def secret_key(var_dir: Path, *, name: str = "secret_key") -> str:
    """Return the key of this installation that has this name. The first call creates it.

    Several processes may call this at once. Each writes a temporary file and links it to the name. Only one link
    succeeds.

    Raises:
        UnusableSecretKey: if the file is empty, cannot be read, is not ASCII or can be guessed.
        OSError: if the file cannot be created.
    """
    path = var_dir / name
    if not path.exists():
        temporary = var_dir / f".{name}.{os.getpid()}.{secrets.token_hex(4)}"
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(secrets.token_urlsafe(SECRET_KEY_BYTES))
            os.link(temporary, path)
        except FileExistsError:
            pass  # Another process was first; its key is used.
        finally:
            temporary.unlink()
    try:
        key = path.read_text(encoding="ascii").strip()
    except UnicodeDecodeError:
        raise UnusableSecretKey(path, "not ASCII") from None
    except OSError as error:
        raise UnusableSecretKey(path, error.strerror or str(error)) from error
    if not key:
        raise UnusableSecretKey(path, "empty")
    if reason := weakness(key):
        raise UnusableSecretKey(path, reason)
    return key


@dataclass(frozen=True)
class KeyFile:
    """A key in a folder. The first call creates the file: a command that needs no key writes none.

    Attributes:
        var_dir: The folder.
        name: The name of the file.
    """

    var_dir: Path
    name: str

    def __call__(self) -> str:
        return secret_key(self.var_dir, name=self.name)


def weakness(key: str) -> str | None:
    """Return why a secret key can be guessed; None if it is as good as Django requires (its check security.W009)."""
    if key.startswith(SECRET_KEY_INSECURE_PREFIX):
        return f"it begins with {SECRET_KEY_INSECURE_PREFIX}, as Django's examples do"
    if len(key) < SECRET_KEY_MIN_LENGTH:
        return f"{len(key)} characters, of at least {SECRET_KEY_MIN_LENGTH}"
    if len(set(key)) < MIN_DIFFERENT_CHARACTERS:
        return f"{len(set(key))} different characters, of at least {MIN_DIFFERENT_CHARACTERS}"
    return None


def valkey_socket(var_dir: Path) -> Path:
    """Return the path of the socket on which the embedded Valkey of this folder listens.

    If the path in `var_dir` is too long for a socket, or not ASCII, return one in a subfolder of `SHORT_PATHS_DIR`. The
    name of the subfolder is derived from `var_dir`. A URL cannot contain every other byte, and what the others mean
    depends on the locale of the process.
    """
    path = var_dir / "valkey.sock"
    encoded = os.fsencode(path)
    if len(encoded) <= MAX_SOCKET_PATH_BYTES and encoded.isascii():
        return path
    digest = hashlib.sha256(os.fsencode(var_dir)).hexdigest()[:16]
    return SHORT_PATHS_DIR / f"mahavishnu-{os.getuid()}-{digest}" / "valkey.sock"


def ensure_socket_directory(socket: Path) -> None:
    """Create the folder of a socket, and reject one that another user could have created first.

    Raises:
        UnsafeDirectoryError: if the folder belongs to another user, or is open to others.
    """
    ensure_directory(socket.parent)
    if socket.parent.parent != SHORT_PATHS_DIR:
        return
    status = socket.parent.lstat()
    if status.st_uid != os.getuid():
        raise UnsafeDirectoryError(socket.parent, "belongs to another user")
    if status.st_mode & OPEN_TO_OTHERS:
        raise UnsafeDirectoryError(socket.parent, "is open to other users")


def valkey_url(var_dir: Path) -> str:
    """Return the URL of the embedded Valkey of this folder."""
    return f"unix://{quote(str(valkey_socket(var_dir)))}"
