"""Free TCP ports, each given to one test process only."""

from __future__ import annotations

import itertools
import os
import random
import socket

HOST = "127.0.0.1"

# Below the ephemeral range (from 32768 on Linux, from 49152 in RFC 6335): a port from there could become the local
# port of a client before the server binds it.
_FIRST_PORT = 10_000
_LAST_PORT = 31_999


def free_port() -> int:
    """Return a free port that no other test process of this run gets.

    Raises:
        OSError: if none of this process's ports is free.
    """
    for _ in range(_PORTS_PER_PROCESS):
        port = _first + next(_numbers) % _PORTS_PER_PROCESS
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        return port
    raise OSError(f"None of the {_PORTS_PER_PROCESS} ports from {_first} on is free")


# pytest-xdist names its processes gw0, gw1, … and sets their count.
_PORTS_PER_PROCESS = (_LAST_PORT + 1 - _FIRST_PORT) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_first = _FIRST_PORT + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) * _PORTS_PER_PROCESS
# A random start, so that two concurrent runs rarely use the same ports.
_numbers = itertools.count(random.SystemRandom().randrange(_PORTS_PER_PROCESS))
