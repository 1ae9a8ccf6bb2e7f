"""TLS by daphne itself: `--endpoint ssl:…`, and the certificate of the settings on every kind of port."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from mahavishnu_site.dev_certificate import CertificateFiles, write_certificate
from realtime.daphne_server.tls import certificate_problem
from realtime.exposure import CONFIGURATION_ERROR_EXIT_CODE
from tests.daphne_server.endpoints import run_command
from tests.harness.client import connect
from tests.harness.ports import HOST, free_port
from tests.harness.programs import PROJECT_DIR, run_to_end
from tests.harness.server import MahavishnuServer
from tests.harness.waiting import wait_until

APPLICATION = "mahavishnu_site.asgi:application"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> CertificateFiles:
    return write_certificate(tmp_path_factory.mktemp("tls"), ["localhost", HOST])


@pytest.fixture(scope="module")
def context(files: CertificateFiles) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(files.authority))


def variables(files: CertificateFiles) -> dict[str, str]:
    return {"MAHAVISHNU_TLS_CERTIFICATE": str(files.certificate), "MAHAVISHNU_TLS_KEY": str(files.key)}


@pytest.fixture(params=["endpoint", "variables", "processes"])
def tls_port(server: MahavishnuServer, files: CertificateFiles, request: pytest.FixtureRequest) -> Iterator[int]:
    """Serve TLS in each documented way."""
    plain, tls = free_port(), free_port()
    if request.param == "endpoint":
        endpoints = (
            *("--endpoint", f"tcp:port={plain}:interface={HOST}"),
            *("--endpoint", f"ssl:port={tls}:interface={HOST}:privateKey={files.key}:certKey={files.certificate}"),
        )
        with run_command(server, "daphne", "--verbosity", "0", *endpoints, APPLICATION, port=plain):
            yield tls
        return
    command = ["-m", "daphne", "--verbosity", "0", "--bind", HOST, "--port", str(tls), APPLICATION]
    environment = {**server.environment, **variables(files), "MAHAVISHNU_OPEN_TIMEOUT_SECONDS": "1"}
    if request.param == "processes":
        daphne = [sys.executable, "-m", "daphne", "--verbosity", "0", "--fd", "0", APPLICATION]
        command = ["-m", "mahavishnu_site.serve.prefork", *daphne]
        environment |= {"MAHAVISHNU_PORT": str(tls), "MAHAVISHNU_PROCESSES": "2"}
    with (server.var_dir / "tls.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, *command], cwd=PROJECT_DIR, env=environment, stdout=log, stderr=log)
    try:
        wait_until(lambda: negotiated(tls, files, ssl.TLSVersion.TLSv1_3) is not None, timeout_seconds=60)
        yield tls
    finally:
        process.terminate()
        process.wait(60)
    assert "Traceback" not in (server.var_dir / "tls.log").read_text()


def negotiated(port: int, files: CertificateFiles, version: ssl.TLSVersion) -> str | None:
    """Return the version that the server agreed to when a client offers only this one."""
    context = ssl.create_default_context(cafile=str(files.authority))
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        context.minimum_version = context.maximum_version = version
    # OpenSSL refuses old versions itself at its default security level; here the server must.
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    try:
        with (
            socket.create_connection((HOST, port), timeout=30) as connection,
            context.wrap_socket(connection, server_hostname="localhost") as secured,
        ):
            return secured.version()
    except (ssl.SSLError, ConnectionError) as error:
        assert "NO_PROTOCOLS_AVAILABLE" not in str(error), "this client cannot offer that version"
        return None


async def test_tls_of_daphne_refuses_old_versions_and_serves_websockets(
    tls_port: int, files: CertificateFiles, context: ssl.SSLContext
) -> None:
    found = {
        version.name: await asyncio.to_thread(negotiated, tls_port, files, version)
        for version in list(ssl.TLSVersion)[2:-1]
    }
    assert found == {"TLSv1": None, "TLSv1_1": None, "TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}
    async with connect(f"wss://{HOST}:{tls_port}", ssl=context) as client:
        await client.subscribe("global")


@pytest.mark.parametrize("tls_port", ["variables"], indirect=True)
async def test_port_with_a_certificate_serves_nothing_without_tls_and_cuts_slow_handshakes(tls_port: int) -> None:
    # Half a handshake, none, and a request without TLS.
    for sent in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ):
        began = time.monotonic()
        reader, writer = await asyncio.open_connection(HOST, tls_port)
        writer.write(sent)
        received = b""
        with pytest.raises(ConnectionError):
            while data := await reader.read(1024):
                received += data
            raise ConnectionAbortedError
        assert time.monotonic() - began < 10
        assert b"HTTP" not in received
        writer.transport.abort()


def test_unusable_certificate_is_named(files: CertificateFiles, tmp_path: Path, settings: Any) -> None:
    other = write_certificate(tmp_path / "other", ["localhost"])
    text = tmp_path / "text.pem"
    text.write_text("no certificate")
    missing = tmp_path / "missing.pem"
    encrypted = tmp_path / "encrypted.pem"
    key_object = load_pem_private_key(files.key.read_bytes(), password=None)
    encrypted.write_bytes(
        key_object.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x" * 9))
    )
    settings.MAHAVISHNU_TLS_CERTIFICATE, settings.MAHAVISHNU_TLS_KEY = files.certificate, files.key
    assert certificate_problem() is None
    for certificate, key, words in (
        (files.certificate, other.key, "KEY_VALUES_MISMATCH"),
        (files.certificate, encrypted, "private key without a password"),
        (text, files.key, "expected a certificate and its private key"),
        (missing, files.key, "expected a file that this user can read (No such file or directory)"),
        (files.certificate, missing, f"MAHAVISHNU_TLS_KEY={str(missing)!r}"),
    ):
        settings.MAHAVISHNU_TLS_CERTIFICATE, settings.MAHAVISHNU_TLS_KEY = certificate, key
        problem = certificate_problem()
        assert problem is not None
        assert words in problem


def test_server_with_an_unusable_certificate_exits_with_one_sentence(
    server: MahavishnuServer, files: CertificateFiles
) -> None:
    environment = {**server.environment, **variables(files), "MAHAVISHNU_TLS_KEY": str(files.certificate)}
    done = run_to_end("-m", "daphne", "--port", str(free_port()), APPLICATION, environment=environment)
    assert done.returncode == CONFIGURATION_ERROR_EXIT_CODE
    assert "expected a certificate and its private key" in done.stderr.splitlines()[-1]
