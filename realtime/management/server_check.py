"""Whether a server runs that tells its clients what a command changes."""

from __future__ import annotations

from http.client import HTTPConnection, HTTPException

from django.conf import settings

from realtime.eventlog.position import current_position
from realtime.protocol.payload import decode_object

PROBE_TIMEOUT_SECONDS = 10.0
"""A server whose parts do not answer takes some seconds to say so, and is one that runs."""

_MAX_ANSWER_BYTES = 64 * 1024

# What a server listens on when it listens everywhere, and where it is then found on this machine.
_LOOPBACK_FOR = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def server_problem() -> str | None:
    """A sentence for a person, if no server that serves this database answers where the settings say; else None.

    Raises:
        django.db.Error: if the database does not answer.
    """
    host = _LOOPBACK_FOR.get(settings.MAHAVISHNU_HOST, settings.MAHAVISHNU_HOST)
    port = settings.MAHAVISHNU_PORT
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}/health"
    where = "MAHAVISHNU_HOST and MAHAVISHNU_PORT say where to look."
    try:
        answer = _ask(host, port)
    except (OSError, HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return f"No server is running: {address} does not answer ({reason}). {where}"
    try:
        epoch = decode_object(answer)["log_epoch"]
    except (ValueError, KeyError):
        return f"No server is running: what answers at {address} is something else. {where}"
    # Null is a server whose database does not answer: it will read what was missed when it can.
    if epoch is not None and epoch != current_position().epoch:
        return f"The server at {address} uses another database. DATABASE_URL and MAHAVISHNU_VAR_DIR say which to use."
    return None


def _ask(host: str, port: int) -> str:
    connection = HTTPConnection(host, port, timeout=PROBE_TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/health", headers={"Host": _allowed_host(host, port)})
        return connection.getresponse().read(_MAX_ANSWER_BYTES).decode(errors="replace")
    finally:
        connection.close()


def _allowed_host(host: str, port: int) -> str:
    """The name to ask under: the server answers only to those of `ALLOWED_HOSTS`."""
    names: list[str] = settings.ALLOWED_HOSTS
    if host in names or "*" in names or not names:
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return names[0].removeprefix(".")
