"""TLS by daphne itself, on every TCP port: `MAHAVISHNU_TLS_CERTIFICATE` and `MAHAVISHNU_TLS_KEY`.

Daphne's own `--endpoint ssl:…` works too. The variables also apply to `--fd`, the socket that several processes share.
"""

from __future__ import annotations

import ssl
from typing import Any

from django.conf import settings

from realtime.exposure import exit_with


def certificate_problem() -> str | None:
    """Return why the certificate of the settings cannot be used; None if it can, or if there is none."""
    certificate, key = settings.MAHAVISHNU_TLS_CERTIFICATE, settings.MAHAVISHNU_TLS_KEY
    if certificate is None or key is None:
        return None
    for name, path in (("MAHAVISHNU_TLS_CERTIFICATE", certificate), ("MAHAVISHNU_TLS_KEY", key)):
        try:
            path.read_bytes()
        except OSError as error:
            return f"{name}={str(path)!r}: expected a file that this user can read ({error.strerror})"
    try:
        # A key with a password is refused: a server has no terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: "")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error) or type(error).__name__
        return (
            f"MAHAVISHNU_TLS_CERTIFICATE={str(certificate)!r}, MAHAVISHNU_TLS_KEY={str(key)!r}: expected a certificate "
            f"and its private key without a password, in PEM ({reason})"
        )
    return None


def server_context() -> Any:
    """Return Twisted's context with the certificate of the settings; None if there is none. Exit if it is unusable."""
    problem = certificate_problem()
    if problem is not None:
        exit_with(problem)
    certificate_path, key_path = settings.MAHAVISHNU_TLS_CERTIFICATE, settings.MAHAVISHNU_TLS_KEY
    if certificate_path is None or key_path is None:
        return None
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from cryptography.x509 import load_pem_x509_certificates
    from OpenSSL import crypto
    from twisted.internet.ssl import CertificateOptions, TLSVersion

    first, *chain = map(crypto.X509.from_cryptography, load_pem_x509_certificates(certificate_path.read_bytes()))
    key = load_pem_private_key(key_path.read_bytes(), password=None)
    return CertificateOptions(
        privateKey=crypto.PKey.from_cryptography_key(key),  # type: ignore[arg-type]
        certificate=first,
        extraCertChain=chain,
        raiseMinimumTo=TLSVersion.TLSv1_2,
    )


def secure_ports(context: Any) -> None:
    """Serve TLS on every TCP port that listens; Twisted's reactor runs, and has not accepted a connection.

    A Unix socket is for a proxy, and a port with daphne's own TLS has it already.
    """
    from twisted.internet import tcp
    from twisted.protocols.tls import TLSMemoryBIOFactory

    from realtime.daphne_server.shutdown import listening_ports

    for port in listening_ports():
        if type(port) is tcp.Port and not isinstance(port.factory, TLSMemoryBIOFactory):
            port.factory = TLSMemoryBIOFactory(context, False, port.factory)
