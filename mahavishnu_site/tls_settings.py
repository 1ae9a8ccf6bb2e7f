"""Settings of Django that follow from whether pages are served over TLS only, and the variables of a certificate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings

from mahavishnu_site.env import Environment

HSTS_SECONDS = 365 * 24 * 3600
"""How long browsers that have opened a page over TLS refuse to use this host without it."""


def tls_settings(*, required: bool, port: int, prefix: str) -> dict[str, Any]:
    """Return the redirect to TLS, HSTS, and the names of the cookies.

    Cookies ignore ports: with the same name, a login to one server would end the session of another on the same host.
    Browsers accept a cookie named `__Host-` only over TLS, for this host alone and for all its paths (RFC 6265bis).
    Below a path prefix, cookies are for that path alone, so they cannot have this name.

    Args:
        required: Whether pages are served over TLS only.
        port: The port that cookie names contain.
        prefix: The path prefix; empty for none.
    """
    cookie_prefix = ("__Secure-" if prefix else "__Host-") if required else ""
    return {
        "SECURE_SSL_REDIRECT": required,
        "SECURE_HSTS_SECONDS": HSTS_SECONDS if required else 0,
        "SESSION_COOKIE_SECURE": required,
        "CSRF_COOKIE_SECURE": required,
        "SESSION_COOKIE_NAME": f"{cookie_prefix}mahavishnu_session_{port}",
        "CSRF_COOKIE_NAME": f"{cookie_prefix}mahavishnu_csrf_{port}",
    }


def require_tls_if_unset() -> bool:
    """Require TLS of a server that turned out to be exposed; return False if its variable says what to do."""
    if not settings.MAHAVISHNU_TLS_FOLLOWS_EXPOSURE:
        return False
    required = tls_settings(required=True, port=settings.MAHAVISHNU_PORT, prefix=settings.MAHAVISHNU_PATH_PREFIX)
    for name, value in {"MAHAVISHNU_REQUIRE_TLS": True, **required}.items():
        setattr(settings, name, value)
    return True


def refuse_half_a_certificate(environment: Environment, certificate: Path | None, key: Path | None) -> None:
    """Record an error if only one of both is set. The files are read by server processes only."""
    for name, path, other_name, other in (
        ("MAHAVISHNU_TLS_CERTIFICATE", certificate, "MAHAVISHNU_TLS_KEY", key),
        ("MAHAVISHNU_TLS_KEY", key, "MAHAVISHNU_TLS_CERTIFICATE", certificate),
    ):
        if path is not None and other is None:
            environment.add_error(name, value=str(path), expected=f"no value, or {other_name} too")
