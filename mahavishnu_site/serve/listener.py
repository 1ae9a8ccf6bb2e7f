"""Open the TCP socket that clients connect to, before a server runs. If that fails, raise a readable error."""

from __future__ import annotations

import errno
import socket

from realtime.limits import LISTEN_BACKLOG


class CannotListenError(OSError):
    """Raised for an address that no server can listen on.

    Attributes:
        host: The value of `MAHAVISHNU_HOST`.
        port: The value of `MAHAVISHNU_PORT`.
        reason: What is wrong, and what is allowed.
    """

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(reason)
        self.host = host
        self.port = port
        self.reason = reason


def open_listener(host: str, port: int) -> socket.socket:
    """Return a socket that listens on this address.

    Raises:
        CannotListenError: if the port is taken, or the host is not an address of this machine.
    """
    listener = bound_socket(host, port)
    try:
        listener.listen(LISTEN_BACKLOG)
    except OSError as error:
        # Meanwhile another program, bound to the same address, started to listen.
        listener.close()
        raise CannotListenError(host, port, _reason(host, port, error)) from error
    return listener


def bound_socket(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to this address and does not listen, so no client can connect.

    Raises:
        CannotListenError: as `open_listener` does.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
    except socket.gaierror as error:
        reason = f"MAHAVISHNU_HOST={host!r}: expected an address of this machine ({error.strerror})."
        raise CannotListenError(host, port, reason) from error
    try:
        # Like daphne: lingering connections of the previous server do not block the port.
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
        return f"Port {port} is reserved for system services. Set MAHAVISHNU_PORT to a port from 1024 to 65535."
    return f"Cannot listen on port {port} of {host}: {error.strerror}."
