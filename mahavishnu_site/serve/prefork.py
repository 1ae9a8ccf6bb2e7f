"""Several web processes behind one listening socket: `python -m mahavishnu_site.serve.prefork COMMAND …`.

COMMAND is run `MAHAVISHNU_PROCESSES` times and finds the socket at its standard input, where `daphne --fd 0` listens.
One that is busy, stopped or dead holds up nobody: another takes the connection. (With a socket for each,
`SO_REUSEPORT`, the kernel deals out connections blindly: with one of four processes frozen, 48 of 200 clients were left
waiting.) How they keep their shares even is in `realtime.daphne_server.listener`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import partial

from mahavishnu_site.serve.listener import CannotListenError, open_listener
from mahavishnu_site.serve.pdeathsig import signalled_by_parent_death
from mahavishnu_site.serve.replicas import Replicas

KILL_MARGIN_SECONDS = 2.0
"""How much longer than `MAHAVISHNU_DRAIN_TIMEOUT_SECONDS` a process may take to end before it is killed."""


def start_sharing(command: Sequence[str], *, stdin: int) -> subprocess.Popen[bytes]:
    """Start a process that has the file `stdin` as its standard input and is told to end when this one dies.

    It has a process group of its own: a signal to this one's group reaches it once, passed on, and not twice.
    """
    return subprocess.Popen(command, stdin=stdin, process_group=0, preexec_fn=signalled_by_parent_death(signal.SIGTERM))


def main() -> None:
    from django.conf import settings
    from django.utils.log import configure_logging

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mahavishnu_site.settings")
    command = sys.argv[1:]
    if not command:
        sys.exit("expected a command, such as: daphne --fd 0 mahavishnu_site.asgi:application")
    try:
        listener = open_listener(settings.MAHAVISHNU_HOST, settings.MAHAVISHNU_PORT)
    except CannotListenError as error:
        sys.exit(error.reason)
    configure_logging(settings.LOGGING_CONFIG, settings.LOGGING)
    siblings = Replicas(
        partial(start_sharing, command, stdin=listener.fileno()),
        count=settings.MAHAVISHNU_PROCESSES,
        stop_timeout_seconds=settings.MAHAVISHNU_LIMITS.drain_timeout_seconds + KILL_MARGIN_SECONDS,
    )
    sys.exit(siblings.run())


if __name__ == "__main__":
    main()
