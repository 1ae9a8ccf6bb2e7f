"""The files that a server process may open: raised at its start, refused if too few, and reported when they run out."""

from __future__ import annotations

import logging
import sys
from typing import Any

from orchestration.log_throttle import LogThrottle
from realtime.limits import Limits

logger = logging.getLogger(__name__)

RESERVED_FILES = 64
"""Files that a process opens besides its WebSockets: databases, Redis, logs, listening sockets, and some requests."""

_MAX_RAISED_FILES = 1_048_576
"""Linux's own maximum of one process (`fs.nr_open`). Some systems allow any number, and reject it when it is set."""

_TWISTED_NAMESPACE = "twisted.internet.tcp"
_ACCEPT_FAILURES = ("EMFILE encountered;", "Could not accept new connection")

_out_of_files = LogThrottle(logger, level=logging.ERROR)


def ensure_enough_files(limits: Limits) -> None:
    """Raise the soft limit of open files to the hard limit. Exit if it is too low for `max_connections`."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MAX_RAISED_FILES if hard == resource.RLIM_INFINITY else hard
    if soft not in (resource.RLIM_INFINITY, most) and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    needed = limits.max_connections + RESERVED_FILES
    if most < needed:
        sys.exit(
            f"This process may open {most} files, and {limits.max_connections} connections need at least {needed}. "
            "Raise the hard limit (`ulimit -Hn`, LimitNOFILE of systemd), or lower MAHAVISHNU_MAX_CONNECTIONS."
        )


def log_accept_failure(event: dict[str, Any]) -> None:
    """Log once a minute that connections are refused for lack of files or memory; an observer of Twisted's log."""
    namespace, text = str(event.get("log_namespace")), str(event.get("log_format"))
    if namespace.startswith(_TWISTED_NAMESPACE) and text.startswith(_ACCEPT_FAILURES):
        _out_of_files.log(
            "New connections are closed: this process has run out of files (or memory); raise LimitNOFILE, "
            "or lower MAHAVISHNU_MAX_CONNECTIONS"
        )
