"""Ports that nothing listens on, and that nothing takes before the test does."""

from __future__ import annotations

import itertools
import os
import random
import socket

HOST = "127.0.0.1"

# Below the range out of which systems give ports to connections that name none (from 32768 on Linux, RFC 6335 from
# 49152): a port from there may be some client's own by the time a server asks for it.
_FIRST_PORT = 10_000
_LAST_PORT = 31_999


def free_port() -> int:
    """Return a port that is free, and that no other test process of this run is given.

    Raises:
        OSError: none of this process's ports is free.
    """
    for _ in range(_PORTS_OF_A_PROCESS):
        port = _first + next(_numbers) % _PORTS_OF_A_PROCESS
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        return port
    raise OSError(f"None of the ports from {_first} on is free: expected one of {_PORTS_OF_A_PROCESS}")


# pytest-xdist names its processes gw0, gw1, … and says how many there are.
_PORTS_OF_A_PROCESS = (_LAST_PORT + 1 - _FIRST_PORT) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_first = _FIRST_PORT + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) * _PORTS_OF_A_PROCESS
# Two runs beside each other rarely begin at the same one.
_numbers = itertools.count(random.SystemRandom().randrange(_PORTS_OF_A_PROCESS))
