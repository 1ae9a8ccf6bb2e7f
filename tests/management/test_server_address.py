"""The URLs that commands print are those of the pages, at the server itself."""

from __future__ import annotations

import urllib.request

import pytest
from django.urls import reverse
from pytest_django import Settings

from realtime.management.server_address import page_url, server_url, url_host, workflow_url
from tests.harness.fixtures import StartServer


@pytest.mark.parametrize(
    ("host", "allowed_hosts", "shown"),
    [
        ("127.0.0.1", ["example.org"], "127.0.0.1"),
        ("::1", [], "[::1]"),
        ("0.0.0.0", ["localhost", "127.0.0.1", "[::1]", "0.0.0.0"], "localhost"),
        ("0.0.0.0", ["*", ".example.org", "192.0.2.1"], "192.0.2.1"),
        ("0.0.0.0", ["*", "0.0.0.0"], "127.0.0.1"),
        ("::", [".example.org", "[2001:db8::1]"], "[2001:db8::1]"),
        ("::", ["*", "[::]"], "[::1]"),
    ],
)
def test_url_host_can_be_opened(settings: Settings, host: str, allowed_hosts: list[str], shown: str) -> None:
    settings.ALLOWED_HOSTS = allowed_hosts
    assert url_host(host) == shown


def test_server_url_has_the_port_of_the_pages_and_the_scheme_of_the_server(settings: Settings) -> None:
    settings.MAHAVISHNU_PORT, settings.MAHAVISHNU_PAGES_PORT = 8690, 0
    assert (server_url(), server_url(scheme="ws")) == ("http://127.0.0.1:8690", "ws://127.0.0.1:8690")
    settings.MAHAVISHNU_PAGES_PORT, settings.MAHAVISHNU_TLS_CERTIFICATE = 8691, "certificate.pem"
    assert server_url() == "https://127.0.0.1:8691"
    assert server_url(port=8690, scheme="ws") == "wss://127.0.0.1:8690"


def test_page_url_is_the_path_of_the_page(settings: Settings) -> None:
    assert workflow_url("wf_1") == server_url() + reverse("workflow", args=["wf_1"])
    assert page_url("overview") == server_url() + reverse("overview")
    settings.ROOT_URLCONF = "tests.site.project_urls"
    assert page_url("no-such-page") is None


@pytest.mark.parametrize("strips", ["0", "1"])
def test_printed_url_of_a_run_is_its_page_under_a_prefix(start_server: StartServer, strips: str) -> None:
    variables = {"MAHAVISHNU_PATH_PREFIX": "/mv", "MAHAVISHNU_PROXY_STRIPS_PREFIX": strips}
    server = start_server(environment=variables)
    started = server.manage("run_workflow", "demo_retry", "--pool", "none")
    url = started.stderr.strip()
    prefix = "" if strips == "1" else "/mv"
    assert url == f"{server.http_url}{prefix}/workflows/{started.stdout.strip()}"
    with urllib.request.urlopen(url) as answer:
        assert answer.status == 200
