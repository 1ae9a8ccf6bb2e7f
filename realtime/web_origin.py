"""Host names and origins as browsers write them: one strict parser for settings and for headers.

An origin is a scheme, a host and a port (RFC 6454), and equal in all three. What a browser never sends is rejected, not
repaired: two parsers that repair a value differently disagree about its host.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

import idna

DEFAULT_PORTS: Final = {"http": 80, "https": 443}

APP_SCHEMES: Final = frozenset(
    {"capacitor", "chrome-extension", "ionic", "moz-extension", "safari-web-extension", "tauri"}
)
"""Schemes of the pages of browser extensions and app shells. Only an exact entry in a list of origins allows one."""

SCHEMES: Final = (*DEFAULT_PORTS, *sorted(APP_SCHEMES))

# RFC 1123 section 2.1, and the underscore: browsers open pages of such hosts.
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_MAX_NAME_CHARACTERS = 253

# URL Standard, "ends in a number checker": such a host is an IPv4 address or invalid.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")

_ORIGIN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>\[[^\]]*\]|[^:\[\]]*)(:(?P<port>[1-9][0-9]{0,4}))?")
_HOST_AND_PORT = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(:(?P<port>[1-9][0-9]{0,4}))?")
_MAX_PORT = 65535

WILDCARD: Final = "*."


class InvalidHost(ValueError):
    """Raised for a text that is no host name or address."""


class InvalidOrigin(ValueError):
    """Raised for a text that is no origin."""


@dataclass(frozen=True, slots=True)
class Origin:
    """A scheme, a host and a port.

    Attributes:
        scheme: One of `SCHEMES`.
        host: As `normalize_host` returns it. In a list of origins, it may begin with `WILDCARD`.
        port: None for schemes without ports.
    """

    scheme: str
    host: str
    port: int | None

    def __str__(self) -> str:
        """Return the origin as browsers send it, without a default port."""
        port = "" if self.port == DEFAULT_PORTS.get(self.scheme) else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}"

    def covers(self, other: Origin) -> bool:
        """Return whether this entry of a list of origins allows `other`. A wildcard stands for one label or more."""
        if self.scheme != other.scheme or self.port != other.port:
            return False
        if self.host.startswith(WILDCARD):
            return other.host.endswith(self.host.removeprefix("*"))
        return self.host == other.host


def normalize_host(text: str) -> str:
    """Return a host in lower case: an ASCII name without a final dot, an IPv4 address, or `[…]` with an IPv6 address.

    Args:
        text: A name, also an internationalized one (UTS 46), or an address. IPv6 needs its brackets.

    Raises:
        InvalidHost: for everything else, such as a port, a user or an IPv4 address in another form than four numbers.
    """
    if text.startswith("["):
        return f"[{_ipv6_address(text)}]"
    name = text.lower().removesuffix(".") if text.isascii() else _to_ascii(text)
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return _ipv4_address(name)
    if len(name) > _MAX_NAME_CHARACTERS or not all(map(_LABEL.fullmatch, labels)):
        raise InvalidHost(f"{text!r} is no host")
    return name


def parse_origin(text: str, *, allow_wildcard: bool = False) -> Origin:
    """Return an origin.

    Args:
        text: `scheme://host` or `scheme://host:port`; case is ignored.
        allow_wildcard: Whether the host may be `*.` and a name.

    Raises:
        InvalidOrigin: for everything else, such as a path, a user, spaces, `null` or another scheme than `SCHEMES`.
    """
    match = _ORIGIN.fullmatch(text.lower())
    if match is None or match["scheme"] not in SCHEMES:
        raise InvalidOrigin(f"{text!r} is no origin")
    scheme, host = match["scheme"], match["host"]
    prefix = WILDCARD if allow_wildcard and host.startswith(WILDCARD) else ""
    try:
        name = normalize_host(host.removeprefix(prefix))
        port = _port(match["port"], default=DEFAULT_PORTS.get(scheme))
    except ValueError as error:
        raise InvalidOrigin(f"{text!r} is no origin") from error
    if prefix and (name.startswith("[") or name.rpartition(".")[2].isdigit()):
        raise InvalidOrigin(f"{text!r} is no origin: an address has no subdomains")
    return Origin(scheme, prefix + name, port)


def host_of_origin(text: str) -> str:
    """Return the host of an entry of a list of origins; `*` if its scheme is that of an extension or app.

    Raises:
        InvalidOrigin: if it is no origin.
    """
    origin = parse_origin(text, allow_wildcard=True)
    return origin.host if origin.scheme in DEFAULT_PORTS else "*"


def origin_of_server(scheme: str, host_header: str) -> Origin | None:
    """Return the origin of pages that a request's own server serves; None if `Host` is invalid.

    Args:
        scheme: `http` or `https`.
        host_header: The `Host` header: a host, and a port if it is not the scheme's default.
    """
    match = _HOST_AND_PORT.fullmatch(host_header) if host_header.isascii() else None
    if match is None:
        return None
    try:
        return Origin(scheme, normalize_host(match["host"]), _port(match["port"], default=DEFAULT_PORTS[scheme]))
    except ValueError:
        return None


def _port(digits: str | None, *, default: int | None) -> int | None:
    if digits is None:
        return default
    if default is None or int(digits) > _MAX_PORT:
        raise ValueError(f"port {digits} is not possible")
    return int(digits)


def _ipv6_address(text: str) -> ipaddress.IPv6Address:
    try:
        address = ipaddress.IPv6Address(text[1:-1])
    except ValueError:
        raise InvalidHost(f"{text!r} is no host") from None
    if not text.endswith("]") or address.scope_id is not None:
        raise InvalidHost(f"{text!r} is no host")
    return address


def _ipv4_address(name: str) -> str:
    try:
        return str(ipaddress.IPv4Address(name))
    except ValueError:
        raise InvalidHost(f"{name!r} is no host") from None


def _to_ascii(text: str) -> str:
    """Return an internationalized name in Punycode, as browsers do (UTS 46, nontransitional)."""
    try:
        return idna.encode(text, uts46=True).decode("ascii").removesuffix(".")
    except idna.IDNAError:
        raise InvalidHost(f"{text!r} is no host") from None
