"""Several web processes behind one listening socket: `python -m mahavishnu_site.serve.prefork COMMAND …`.

COMMAND runs in `MAHAVISHNU_PROCESSES` processes. Each finds the socket at its standard input, where `daphne --fd 0`
listens. A process that is busy, frozen or dead delays no client, because another process accepts the connection. (With
`SO_REUSEPORT`, each process has its own socket, and the kernel assigns connections to a frozen process too. With one of
four processes frozen, 48 of 200 clients waited.) `realtime.daphne_server.accept_balancer` balances the connections.
`mahavishnu_site.serve.process_manager` restarts a process that crashed.
"""

from __future__ import annotations

import os
import sys

from django.conf import settings
from django.utils.log import configure_logging

from mahavishnu_site.serve.listener import CannotListenError, open_listener
from mahavishnu_site.serve.process_manager import ProcessManager
from mahavishnu_site.serve.replica import Program
from realtime.daphne_server.tls import certificate_problem
from realtime.exposure import exit_with, refuse_to_be_open

KILL_MARGIN_SECONDS = 2.0
"""With `MAHAVISHNU_DRAIN_TIMEOUT_SECONDS` added, how long a process may run after SIGTERM before it is killed."""


def main() -> None:
    """Run the command in `sys.argv`, and exit with the code of the run."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mahavishnu_site.settings")
    command = sys.argv[1:]
    if not command:
        sys.exit("No command: expected one such as daphne --fd 0 mahavishnu_site.asgi:application")
    refuse_to_be_open()
    if problem := certificate_problem():
        exit_with(problem)
    try:
        listener = open_listener(settings.MAHAVISHNU_HOST, settings.MAHAVISHNU_PORT)
    except CannotListenError as error:
        sys.exit(error.reason)
    configure_logging(settings.LOGGING_CONFIG, settings.LOGGING)
    web = Program(
        name="web",
        command=command,
        replicas=settings.MAHAVISHNU_PROCESSES,
        restarts_on_signal=True,
        stdin=listener.fileno(),
    )
    stop_timeout_seconds = settings.MAHAVISHNU_LIMITS.drain_timeout_seconds + KILL_MARGIN_SECONDS
    # A second SIGTERM ends a draining daphne at once.
    manager = ProcessManager(
        [web], stop_timeout_seconds=stop_timeout_seconds, restart_problem=certificate_problem, repeats_sigterm=True
    )
    sys.exit(manager.run())


if __name__ == "__main__":
    main()
