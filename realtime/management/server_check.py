"""Check whether a running server delivers the events that a command writes."""

from __future__ import annotations

import ssl
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, NamedTuple

import msgspec
from django.conf import settings

from realtime.eventlog.position import current_position
from realtime.management.server_address import LOOPBACK_OF_WILDCARD, server_prefix
from realtime.protocol.payload import decode_object

HEALTH_TIMEOUT_SECONDS = 10.0
"""Timeout of the health check. A server whose database is unavailable takes some seconds to respond."""

NOT_RUNNING = "not running"
NOT_ANSWERING = "not answering"

_MAX_RESPONSE_BYTES = 64 * 1024
_PARTS = ("database", "redis", "relay", "scheduler")


class ServerReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the server says about itself.

    Attributes:
        status: `healthy`, `unhealthy` or `draining`, as it reports; `not answering` if it does not report in time;
            `not running` if there is no server of this installation.
        problems: What does not work, a sentence each.
        parts: The state of each part that it reports, such as `up`.
        connections: Connected clients; null if it does not report them.
    """

    status: str
    problems: list[str]
    parts: dict[str, str] = {}
    connections: int | None = None


class NoReport(NamedTuple):
    """Why there is no report: the status of the server, and the problem in one or two sentences."""

    status: str
    problem: str


def server_report() -> ServerReport:
    """Ask the server at MAHAVISHNU_HOST and MAHAVISHNU_PORT.

    Raises:
        django.db.Error: if the database cannot be used.
    """
    health = _read_health()
    if isinstance(health, NoReport):
        return ServerReport(status=health.status, problems=[health.problem])
    return ServerReport(
        status=str(health["status"]),
        problems=[str(problem) for problem in health.get("problems", ())],
        parts={name: str(health[name]) for name in _PARTS if name in health},
        connections=health.get("connections"),
    )


def server_problem() -> str | None:
    """Check the server at MAHAVISHNU_HOST and MAHAVISHNU_PORT.

    Returns:
        The problem, in one or two sentences; None if the server is running and uses this database.

    Raises:
        django.db.Error: if the database cannot be used.
    """
    health = _read_health()
    return health.problem if isinstance(health, NoReport) else None


def _read_health() -> dict[str, Any] | NoReport:
    """Return the report of the server; the problem if none with this database answers."""
    host = LOOPBACK_OF_WILDCARD.get(settings.MAHAVISHNU_HOST, settings.MAHAVISHNU_HOST)
    port = settings.MAHAVISHNU_PORT
    scheme = "https" if settings.MAHAVISHNU_TLS_CERTIFICATE else "http"
    address = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{_health_path()}"
    hint = "Check MAHAVISHNU_HOST and MAHAVISHNU_PORT."
    try:
        response = _get_health(host, port)
    except TimeoutError:
        return NoReport(NOT_ANSWERING, f"The server at {address} did not answer within {HEALTH_TIMEOUT_SECONDS:g} s.")
    except (OSError, HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return NoReport(NOT_RUNNING, f"No server is running at {address} ({reason}). {hint}")
    try:
        health = decode_object(response)
        # An exposed server that requires credentials reports no more than its status.
        epoch = health["log_epoch"] if health.keys() != {"status"} else None
    except (ValueError, KeyError):
        return NoReport(NOT_RUNNING, f"The service at {address} is not Mahavishnu. {hint}")
    # The epoch is null while the server's database is unavailable; the server catches up afterwards.
    if epoch is not None and epoch != current_position().epoch:
        check = "Check DATABASE_URL and MAHAVISHNU_VAR_DIR."
        return NoReport(NOT_RUNNING, f"The server at {address} uses another database. {check}")
    return health


def delayed_delivery_warning() -> str | None:
    """Return the warning of a command whose events no running server delivers now; None if one does.

    Raises:
        django.db.Error: as `server_problem` does.
    """
    problem = server_problem()
    return None if problem is None else f"{problem} Events are stored; clients receive them when they resume."


def _get_health(host: str, port: int) -> str:
    connection = HTTPConnection(host, port, timeout=HEALTH_TIMEOUT_SECONDS)
    if settings.MAHAVISHNU_TLS_CERTIFICATE:
        # Nothing secret is sent, and the certificate is for another name than the address that the server listens on.
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = HTTPSConnection(host, port, timeout=HEALTH_TIMEOUT_SECONDS, context=context)
    try:
        connection.request("GET", _health_path(), headers={"Host": _allowed_host(host, port)})
        return connection.getresponse().read(_MAX_RESPONSE_BYTES).decode(errors="replace")
    finally:
        connection.close()


def _health_path() -> str:
    return f"{server_prefix()}/health"


def _allowed_host(host: str, port: int) -> str:
    """Return a Host header that the server accepts: it rejects hosts that are not in `ALLOWED_HOSTS`."""
    names: list[str] = settings.ALLOWED_HOSTS
    if host in names or "*" in names or not names:
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return names[0].removeprefix(".")
