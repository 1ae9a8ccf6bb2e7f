"""Download a JWKS over HTTPS, with a bound for its size and one for the whole time."""

from __future__ import annotations

import http.client
import queue
import socket
import ssl
import threading
from contextlib import suppress
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

MAX_JWKS_BYTES: Final = 64 * 1024
TIMEOUT_SECONDS: Final = 3.0
DEFAULT_PORT: Final = 443


class UnavailableJwks(Exception):
    """Raised if a JWKS cannot be read. The message is for the log."""


def download(url: str, *, timeout_seconds: float = TIMEOUT_SECONDS) -> bytes:
    """Return what a URL answers with. Redirects are not followed: the operator names the server that is trusted.

    The certificate is verified with the authorities of the system, or those of SSL_CERT_FILE.

    Raises:
        UnavailableJwks: if there is no complete, small answer with status 200 within the time.
    """
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection = http.client.HTTPSConnection(
        parts.hostname or "", parts.port or DEFAULT_PORT, timeout=timeout_seconds, context=ssl.create_default_context()
    )
    answers: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()

    def get() -> None:
        try:
            answers.put(_get(connection, target))
        except Exception as error:
            answers.put(error)

    # The timeout of a socket is for one operation, and none is for a name server. So the request has its own thread.
    threading.Thread(target=get, name="jwks-download", daemon=True).start()
    try:
        answer = answers.get(timeout=timeout_seconds)
    except queue.Empty:
        raise UnavailableJwks(f"no complete answer within {timeout_seconds:g} s") from None
    finally:
        _close(connection)
    if isinstance(answer, UnavailableJwks):
        raise answer
    if isinstance(answer, Exception):
        raise UnavailableJwks(_reason(answer)) from None
    return answer


def _get(connection: http.client.HTTPSConnection, target: str) -> bytes:
    connection.request("GET", target, headers={"Accept": "application/json", "User-Agent": "mahavishnu"})
    response = connection.getresponse()
    if response.status != HTTPStatus.OK:
        redirected = ": redirects are not followed" if 300 <= response.status < 400 else ""
        raise UnavailableJwks(f"status {response.status}{redirected}")
    if response.getheader("Content-Encoding", "identity").lower() != "identity":
        raise UnavailableJwks("a compressed answer")
    content = response.read(MAX_JWKS_BYTES + 1)
    if len(content) > MAX_JWKS_BYTES:
        raise UnavailableJwks(f"more than {MAX_JWKS_BYTES} bytes")
    return content


def _close(connection: http.client.HTTPSConnection) -> None:
    """End the thread that may still read."""
    if connection.sock is not None:
        with suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return type(error).__name__
