"""The TCP sockets on which a process listens beyond loopback, under any ASGI server."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from itertools import pairwise

from realtime.exposure import is_loopback

_FILES = "/dev/fd"
"""The open files of this process, on Linux and macOS."""


def addresses_of_process(arguments: Sequence[str]) -> list[str]:
    """Return the addresses beyond loopback, as far as they can be seen when a server imports the application.

    Some servers listen before that, others afterwards: their option `--host` is read too.

    Args:
        arguments: The command line.
    """
    addresses = [address for number in _open_files() for address in addresses_beyond_loopback(number)]
    addresses += [host for host in _values_of("--host", arguments) if not is_loopback(host)]
    return sorted(set(addresses))


def addresses_beyond_loopback(number: int) -> Iterator[str]:
    """Yield the address of this file if it is a TCP socket that listens beyond loopback. The file is left as it is."""
    try:
        listening = socket.socket(fileno=number)  # It detects the family of the socket.
    except OSError:
        return  # It is no socket.
    try:
        if (
            listening.family in (socket.AF_INET, socket.AF_INET6)
            and listening.type == socket.SOCK_STREAM
            and listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        ):
            host, port = listening.getsockname()[:2]
            if not is_loopback(host):
                yield f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    finally:
        listening.detach()  # The file stays open: it belongs to the server.


def _open_files() -> list[int]:
    try:
        return [int(name) for name in os.listdir(_FILES)]
    except OSError:
        return []


def _values_of(option: str, arguments: Sequence[str]) -> list[str]:
    separate = [value for name, value in pairwise(arguments) if name == option]
    return separate + [word.removeprefix(f"{option}=") for word in arguments if word.startswith(f"{option}=")]
