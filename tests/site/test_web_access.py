"""The values of the settings of access: what is normalized, and what is rejected with a suggestion."""

from __future__ import annotations

import pytest
from django.http.request import validate_host

from mahavishnu_site.env import UnexpectedValueError
from mahavishnu_site.web_access import (
    HOSTS_EXPECTED,
    ORIGINS_EXPECTED,
    hosts_of_listener,
    parse_allowed_host,
    parse_allowed_origin,
    parse_network,
)

NETWORKS = {
    "10.0.0.5": "10.0.0.5/32",
    "10.0.0.0/8": "10.0.0.0/8",
    "fd00::/8": "fd00::/8",
    "2001:DB8::1": "2001:db8::1/128",
    "::ffff:0:0/96": "::ffff:0:0/96",
}
INVALID_NETWORKS = ["nginx", "10.0.0.1/8", "10.0.0.0/33", "[::1]", "10.0.0.5:80", "0.0.0.0/0", "::/0", "10.0.0.*"]

# The value, and the part of its error after the description of valid values.

ORIGINS = {
    "https://example.org": "https://example.org",
    "HTTPS://Example.ORG": "https://example.org",
    "https://example.org:443": "https://example.org",
    "http://example.org:80": "http://example.org",
    "http://example.org:443": "http://example.org:443",
    "https://example.org.": "https://example.org",
    "https://bücher.example": "https://xn--bcher-kva.example",
    "https://BÜCHER.example:8443": "https://xn--bcher-kva.example:8443",
    "https://*.example.org": "https://*.example.org",
    "https://*.Bücher.example:443": "https://*.xn--bcher-kva.example",
    "http://my_host:3000": "http://my_host:3000",
    "http://localhost:3000": "http://localhost:3000",
    "http://[0:0::1]:80": "http://[::1]",
    "http://192.0.2.1:8080": "http://192.0.2.1:8080",
    "chrome-extension://abcdef": "chrome-extension://abcdef",
    "capacitor://localhost": "capacitor://localhost",
}

INVALID_ORIGINS = {
    "example.org": "'example.org' has no scheme: write https://example.org",
    "//example.org": "'//example.org' has no scheme",
    "*": "'*' would allow every site to read through its visitors' browsers",
    "null": "'null' is sent by pages without an origin, which anyone can make",
    "wss://example.org:443": "'wss://example.org:443' is the address of a WebSocket, not of a page: "
    "write https://example.org",
    "https://example.org/": "'https://example.org/' has more than a scheme, a host and a port: write https://example.org",
    "https://example.org/app?x": "'https://example.org/app?x' has more than a scheme, a host and a port: "
    "write https://example.org",
    "http://evil.example\\@localhost": "'http://evil.example\\\\@localhost' has more than a scheme, a host and a port: "
    "write http://evil.example",
    "file://": "'file://' has a scheme other than http, https, capacitor, chrome-extension, ionic, moz-extension, "
    "safari-web-extension, tauri",
    "https://": "'https://' is none",
    "https://a@b": "'https://a@b' is none",
    "https://a:b": "'https://a:b' is none",
    "https://example.org:": "'https://example.org:' is none",
    "https://example.org:*": "'https://example.org:*' is none",
    "https://example.org:0": "'https://example.org:0' is none",
    "https://example.org:65536": "'https://example.org:65536' is none",
    "https://ex ample.org": "'https://ex ample.org' is none",
    "https://example..org": "'https://example..org' is none",
    "https://*": "'https://*' is none",
    "https://*.": "'https://*.' is none",
    "https://a.*.example": "'https://a.*.example' is none",
    "https://*.192.0.2.1": "'https://*.192.0.2.1' is none",
    "https://*.[::1]": "'https://*.[::1]' is none",
    "http://127.1": "'http://127.1' is none",
    "http://999.1.1.1": "'http://999.1.1.1' is none",
    "http://::1": "'http://::1' is none",
    "chrome-extension://abcdef:80": "'chrome-extension://abcdef:80' is none",
}

HOSTS = {
    "*": ("*", "anything.example"),
    "example.org": ("example.org", "example.org"),
    "Example.ORG.": ("example.org", "example.org"),
    ".Example.org": (".example.org", "a.example.org"),
    "bücher.example": ("xn--bcher-kva.example", "xn--bcher-kva.example"),
    "127.0.0.1": ("127.0.0.1", "127.0.0.1"),
    "::1": ("[::1]", "[::1]"),
    "[0:0::1]": ("[::1]", "[::1]"),
}

INVALID_HOSTS = {
    "https://example.org": "'https://example.org' matches nothing: write example.org",
    "https://example.org:8443/x": "'https://example.org:8443/x' matches nothing: write example.org",
    "example.org:8690": "'example.org:8690' matches nothing: write example.org",
    "[::1]:8690": "'[::1]:8690' matches nothing: write [::1]",
    "example.org/": "'example.org/' matches nothing: write example.org",
    "*.example.org": "'*.example.org' matches nothing: write .example.org",
    "my_host": "'my_host' has an underscore, which Django rejects",
    "a..b": "'a..b' is none",
    "127.1": "'127.1' is none",
    "..example.org": "'..example.org' is none",
    "exa mple.org": "'exa mple.org' is none",
    "ex*mple.org": "'ex*mple.org' is none",
}


@pytest.mark.parametrize(("value", "origin"), ORIGINS.items())
def test_parse_allowed_origin_returns_what_browsers_send(value: str, origin: str) -> None:
    assert parse_allowed_origin(value) == origin
    assert parse_allowed_origin(origin) == origin


@pytest.mark.parametrize(("value", "reason"), INVALID_ORIGINS.items())
def test_parse_allowed_origin_rejects_what_no_browser_sends(value: str, reason: str) -> None:
    with pytest.raises(UnexpectedValueError) as error:
        parse_allowed_origin(value)
    assert str(error.value) == f"{ORIGINS_EXPECTED}; {reason}"


@pytest.mark.parametrize(("value", "host", "request_host"), [(value, *case) for value, case in HOSTS.items()])
def test_parse_allowed_host_returns_what_django_compares(value: str, host: str, request_host: str) -> None:
    assert parse_allowed_host(value) == host
    assert validate_host(request_host, [host])


@pytest.mark.parametrize(("value", "reason"), INVALID_HOSTS.items())
def test_parse_allowed_host_rejects_what_django_never_matches(value: str, reason: str) -> None:
    with pytest.raises(UnexpectedValueError) as error:
        parse_allowed_host(value)
    assert str(error.value) == f"{HOSTS_EXPECTED}; {reason}"


@pytest.mark.parametrize(
    ("host", "hosts"),
    [("::1", ("[::1]",)), ("Server-1.example.org.", ("server-1.example.org",)), ("my_host", ()), ("fe80::1%lo", ())],
)
def test_hosts_of_listener_are_what_pages_can_be_opened_by(host: str, hosts: tuple[str, ...]) -> None:
    assert hosts_of_listener(host) == hosts


@pytest.mark.parametrize(("value", "network"), NETWORKS.items())
def test_parse_network_accepts_addresses_and_networks(value: str, network: str) -> None:
    assert str(parse_network(value)) == network


@pytest.mark.parametrize("value", INVALID_NETWORKS)
def test_parse_network_rejects_other_values(value: str) -> None:
    with pytest.raises(UnexpectedValueError, match=r"^addresses or networks separated by commas"):
        parse_network(value)
