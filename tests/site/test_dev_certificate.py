"""`manage.py dev_certificate`: the files it writes, and what it prints."""

from __future__ import annotations

import re
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509
from django.core.management import CommandError, call_command

from mahavishnu_site.dev_certificate import write_certificate
from tests.harness.interpreter import run_python


def test_command_writes_closed_files_and_prints_their_use(tmp_path: Path) -> None:
    done = run_python(tmp_path, "manage.py", "dev_certificate", "dev.example.org", "*.dev.example.org", "192.0.2.1")
    done.check_returncode()
    folder = tmp_path / "tls"
    assert sorted(path.name for path in folder.iterdir()) == ["authority.pem", "certificate.pem", "key.pem"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    certificate = x509.load_pem_x509_certificate((folder / "certificate.pem").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "dev.example.org", "*.dev.example.org"]
    assert [str(each) for each in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1", "192.0.2.1"]
    for path in ("authority.pem", "certificate.pem", "key.pem"):
        assert str(folder / path) in done.stdout
    assert "MAHAVISHNU_TLS_CERTIFICATE=" in done.stdout
    assert not re.search("PRIVATE", done.stdout)


def test_certificate_is_trusted_through_its_authority_only(tmp_path: Path) -> None:
    first = write_certificate(tmp_path, ["localhost"])
    authority = first.authority.read_bytes()
    second = write_certificate(tmp_path, ["localhost"])
    assert second.authority.read_bytes() != authority, "the key of the first authority is not kept"
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(second.certificate, second.key)
    assert handshake(server, ssl.create_default_context(cafile=str(second.authority))) is None
    other = tmp_path / "other.pem"
    other.write_bytes(authority)
    assert handshake(server, ssl.create_default_context(cafile=str(other))) is not None


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> str | None:
    """Let both ends talk in memory; return why the client does not trust the server, if it does not."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    ends = [
        server.wrap_bio(to_server, to_client, server_side=True),
        client.wrap_bio(to_client, to_server, server_hostname="localhost"),
    ]
    for _ in range(5):
        for end in reversed(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                return error.verify_message
    return None


@pytest.mark.parametrize("name", ["", "a b", "https://localhost", "host:80", "*.", "*.*.org"])
def test_name_that_no_host_can_have_is_refused(name: str) -> None:
    with pytest.raises(CommandError, match="expected a host name or an address"):
        call_command("dev_certificate", name)
