"""Where the server of this installation can be reached: its address and the URLs of its pages, from the settings."""

from __future__ import annotations

from django.conf import settings
from django.urls import NoReverseMatch, reverse

LOOPBACK_OF_WILDCARD = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Addresses to listen on that stand for every address, and a destination for each."""


def url_host(host: str) -> str:
    """Return a host under which a server that listens on `host` can be opened, as in a URL."""
    name = _in_url(host)
    if host not in LOOPBACK_OF_WILDCARD:
        return name
    named = [each for each in settings.ALLOWED_HOSTS if not each.startswith(("*", ".")) and each != name]
    return named[0] if named else _in_url(LOOPBACK_OF_WILDCARD[host])


def server_url(*, port: int | None = None, scheme: str = "http") -> str:
    """Return the URL of the server without a path, such as `http://127.0.0.1:8690`.

    Args:
        port: By default that of the pages.
        scheme: `http` or `ws`; an `s` follows if the server has a certificate.
    """
    tls = "s" if settings.MAHAVISHNU_TLS_CERTIFICATE else ""
    port = port or settings.MAHAVISHNU_PAGES_PORT or settings.MAHAVISHNU_PORT
    return f"{scheme}{tls}://{url_host(settings.MAHAVISHNU_HOST)}:{port}"


def server_prefix() -> str:
    """Return the path before all others, at the server itself: a proxy that removes it from requests is not asked."""
    prefix: str = "" if settings.MAHAVISHNU_PROXY_STRIPS_PREFIX else settings.MAHAVISHNU_PATH_PREFIX
    return prefix


def page_url(name: str, **arguments: str) -> str | None:
    """Return the URL of the page with this name; None if the site has no such page, as with another `ROOT_URLCONF`."""
    try:
        path = reverse(name, kwargs=arguments)
    except NoReverseMatch:
        return None
    # Django puts the prefix before every path.
    return f"{server_url()}{server_prefix()}{path.removeprefix(settings.MAHAVISHNU_PATH_PREFIX)}"


def workflow_url(workflow_id: str) -> str | None:
    """Return the URL of the page of a run; None if the site has no such page."""
    return page_url("workflow", workflow_id=workflow_id)


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
