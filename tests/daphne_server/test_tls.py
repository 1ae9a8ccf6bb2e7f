"""TLS by daphne itself: `--endpoint ssl:…`."""

from __future__ import annotations

import socket
import ssl
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daphne_server.endpoints import run_command, write_certificate
from tests.harness.ports import HOST, free_port
from tests.harness.server import MahavishnuServer


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def tls_port(server: MahavishnuServer, certificate: Path) -> Iterator[int]:
    plain, tls = free_port(), free_port()
    endpoints = (
        *("--endpoint", f"tcp:port={plain}:interface={HOST}"),
        *("--endpoint", f"ssl:port={tls}:interface={HOST}:privateKey={certificate}:certKey={certificate}"),
    )
    with run_command(server, "daphne", *endpoints, "mahavishnu_site.asgi:application", port=plain):
        yield tls


def negotiated(port: int, certificate: Path, version: ssl.TLSVersion) -> str | None:
    """Return the version that the server agreed to when a client offers only this one."""
    context = ssl.create_default_context(cafile=str(certificate))
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        context.minimum_version = context.maximum_version = version
    # OpenSSL refuses old versions itself at its default security level; here the server must.
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    with socket.create_connection((HOST, port), timeout=30) as connection:
        try:
            with context.wrap_socket(connection, server_hostname="localhost") as secured:
                return secured.version()
        except (ssl.SSLError, ConnectionResetError) as error:
            assert "NO_PROTOCOLS_AVAILABLE" not in str(error), "this client cannot offer that version"
            return None


def test_tls_of_daphne_refuses_old_versions(tls_port: int, certificate: Path) -> None:
    found = {version.name: negotiated(tls_port, certificate, version) for version in list(ssl.TLSVersion)[2:-1]}
    assert found == {"TLSv1": None, "TLSv1_1": None, "TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}
