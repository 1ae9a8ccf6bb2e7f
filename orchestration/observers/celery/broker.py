"""The URL of the broker of an observed application."""

from __future__ import annotations

import re

from kombu.transport import resolve_transport


def parse_url(url: str | None) -> str:
    """Return a URL in Celery's notation: a Unix socket is `redis+socket:///path`. The password is in no error.

    Raises:
        ValueError: if Celery has no transport for it.
    """
    scheme, found, _ = (url or "").partition("://")
    name = "redis" if scheme == "unix" else scheme.partition("+")[0]
    expected = "the URL of a broker that Celery supports, such as redis://host:6379/0 or amqp://user:password@host//"
    if url is None or not found or not name:
        raise ValueError(f"expected {expected}")
    try:
        resolve_transport(name)
    except Exception as error:  # Kombu has no transport of this name, or a package is missing.
        raise ValueError(f"expected {expected}; {name!r} has no transport ({type(error).__name__})") from None
    return re.sub(r"\Aunix:", "redis+socket:", url)
