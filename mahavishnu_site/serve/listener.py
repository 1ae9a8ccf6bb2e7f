"""The TCP socket that clients connect to, opened before anything serves it, or why it cannot be, in words."""

from __future__ import annotations

import errno
import socket

from realtime.limits import LISTEN_BACKLOG


class CannotListenError(OSError):
    """Raised when nobody can listen at an address.

    Attributes:
        host: As `MAHAVISHNU_HOST` has it.
        port: As `MAHAVISHNU_PORT` has it.
        reason: What was wrong, and what was expected, for a person.
    """

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(reason)
        self.host = host
        self.port = port
        self.reason = reason


def open_listener(host: str, port: int) -> socket.socket:
    """Return a socket that listens there.

    Raises:
        CannotListenError: it is taken, or not an address of this machine, or port 0.
    """
    listener = bound_socket(host, port)
    try:
        listener.listen(LISTEN_BACKLOG)
    except OSError as error:
        # Another program that was bound as well has begun to listen in between.
        listener.close()
        raise CannotListenError(host, port, _reason(host, port, error)) from error
    return listener


def bound_socket(host: str, port: int) -> socket.socket:
    """Return a socket that is bound there and does not listen: nobody can connect to it.

    Raises:
        CannotListenError: as in `open_listener`.
    """
    if port == 0:
        reason = "MAHAVISHNU_PORT='0': expected a whole number from 1 to 65535, so that clients can know it."
        raise CannotListenError(host, port, reason)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
    except socket.gaierror as error:
        reason = f"MAHAVISHNU_HOST={host!r}: expected an address of this machine ({error.strerror})."
        raise CannotListenError(host, port, reason) from error
    try:
        # As daphne does: connections of the last server that still linger do not count.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise CannotListenError(host, port, _reason(host, port, error)) from error
    return bound


def _reason(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} on {host} is taken by another program. Stop it, or set MAHAVISHNU_PORT to a free port."
    if error.errno == errno.EADDRNOTAVAIL:
        return f"MAHAVISHNU_HOST={host!r}: expected an address of this machine, such as 127.0.0.1 or 0.0.0.0."
    if error.errno == errno.EACCES:
        return f"Port {port} is for the system's own services. Set MAHAVISHNU_PORT to one from 1024 to 65535."
    return f"Nobody can listen on {host}, port {port}: {error.strerror}."
