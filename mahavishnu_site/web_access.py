"""The values of the settings of access: hosts, origins, proxies and the path prefix.

Each value matches what browsers and proxies send, or is rejected.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

from mahavishnu_site.env import UnexpectedValueError
from realtime.limits import Network
from realtime.web_origin import APP_SCHEMES, InvalidHost, InvalidOrigin, normalize_host, parse_origin

ORIGINS_EXPECTED: Final = (
    "origins separated by commas, such as https://example.org,http://example.org:8080 or https://*.example.org"
)
HOSTS_EXPECTED: Final = (
    "host names without scheme, port or path, separated by commas, such as example.org,[::1], .example.org with the "
    "names below it, or *"
)

NETWORKS_EXPECTED: Final = "addresses or networks separated by commas, such as 10.0.0.5,10.1.0.0/16,fd00::/8"
PATH_PREFIX_EXPECTED: Final = "a path such as /mahavishnu, of letters, digits and . _ ~ - between slashes"
_PATH_PREFIX: Final = re.compile(r"(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._~-]+)+")

_PAGE_SCHEMES: Final = {"ws": "http", "wss": "https"}

# Django answers 400 to every request with such a host, before it reads `ALLOWED_HOSTS` (`host_validation_re`).
_UNDERSCORE: Final = "_"


def parse_allowed_origin(value: str) -> str:
    """Return the origin in the form that browsers send: ASCII, in lower case, without a default port.

    Raises:
        UnexpectedValueError: if no browser sends such an origin. The message suggests one.
    """
    try:
        return str(parse_origin(value, allow_wildcard=True))
    except InvalidOrigin:
        raise UnexpectedValueError(f"{ORIGINS_EXPECTED}; {_about_origin(value)}") from None


def parse_allowed_host(value: str) -> str:
    """Return the host in the form that Django compares: ASCII, in lower case, IPv6 in brackets.

    Raises:
        UnexpectedValueError: if Django accepts no request with such a host. The message suggests one.
    """
    if value == "*":
        return value
    dot = "." if value.startswith(".") else ""
    name = value.removeprefix(".")
    try:
        host = normalize_host(f"[{name}]" if _is_ipv6(name) else name)
    except InvalidHost:
        raise UnexpectedValueError(f"{HOSTS_EXPECTED}; {_about_host(value)}") from None
    if _UNDERSCORE in host:
        raise UnexpectedValueError(f"{HOSTS_EXPECTED}; {value!r} has an underscore, which Django rejects")
    return dot + host


def hosts_of_listener(host: str) -> tuple[str, ...]:
    """Return the entry of `ALLOWED_HOSTS` for the address or name that a server listens on, if it can have one.

    A name with an underscore or an address with a zone has none: no page can be opened by it.
    """
    try:
        return (parse_allowed_host(host),)
    except UnexpectedValueError:
        return ()


def _about_origin(value: str) -> str:
    """Return what is wrong with an origin, and what to write instead if that is clear."""
    if value == "*":
        return "'*' would allow every site to read through its visitors' browsers"
    if value.lower() == "null":
        return "'null' is sent by pages without an origin, which anyone can make"
    if "://" not in value:
        return f"{value!r} has no scheme{_suggestion(f'https://{value}')}"
    scheme, _, rest = value.partition("://")
    scheme = scheme.lower()
    if scheme in _PAGE_SCHEMES:
        page = _PAGE_SCHEMES[scheme]
        return f"{value!r} is the address of a WebSocket, not of a page{_suggestion(f'{page}://{rest}')}"
    if scheme not in ("http", "https", *APP_SCHEMES):
        return f"{value!r} has a scheme other than http, https, {', '.join(sorted(APP_SCHEMES))}"
    host = re.split(r"[/?#\\]", rest)[0]
    if host != rest:
        return f"{value!r} has more than a scheme, a host and a port{_suggestion(f'{scheme}://{host}')}"
    return f"{value!r} is none"


def _suggestion(value: str) -> str:
    try:
        return f": write {parse_origin(value, allow_wildcard=True)}"
    except InvalidOrigin:
        return ""


def _about_host(value: str) -> str:
    if value.startswith("*."):
        return f"{value!r} matches nothing: write {value[1:]}"
    try:
        parts = urlsplit(value if "://" in value else f"//{value}")
        host = normalize_host(f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or "")
    except ValueError:
        return f"{value!r} is none"
    return f"{value!r} matches nothing: write {host}"


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False


def parse_path_prefix(value: str) -> str:
    """Return a path prefix without a slash at its end; empty for `/`.

    Raises:
        UnexpectedValueError: if it is no path, or needs escapes.
    """
    prefix = value.removesuffix("/")
    if prefix and not _PATH_PREFIX.fullmatch(prefix):
        raise UnexpectedValueError(PATH_PREFIX_EXPECTED)
    return prefix


def parse_network(value: str) -> Network:
    """Return a network; an address is a network of one. One that contains every address is rejected."""
    try:
        network = ipaddress.ip_network(value)
    except ValueError as error:
        raise UnexpectedValueError(f"{NETWORKS_EXPECTED}; {error}") from None
    if not network.prefixlen:
        raise UnexpectedValueError(f"{NETWORKS_EXPECTED}; {network} would trust every client")
    return network
