"""An issuer of tokens: an HTTPS server on this machine that serves a JWKS, or misbehaves."""

from __future__ import annotations

import socketserver
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import trustme

from tests.auth.token_signing import jwks

CHUNK = b"10000\r\n" + b" " * 65536 + b"\r\n"


def answer_with(content: str, *, status: str = "200 OK", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(content)}\r\n\r\n{content}".encode()


@dataclass
class Issuer:
    """What the server does, and what it has done.

    Attributes:
        url: The URL of the JWKS.
        ca_file: The certificate of its authority.
        answer: What it sends for each request.
        then: What it does afterwards: `close`, `hang`, `drip` a header, or send `forever`.
        requests: The requests so far.
        sent_bytes: How much of an endless answer was sent.
    """

    url: str
    ca_file: Path
    answer: bytes = field(default_factory=lambda: answer_with(jwks()))
    then: str = "close"
    requests: list[str] = field(default_factory=list)
    sent_bytes: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        issuer: Issuer = self.server.issuer  # type: ignore[attr-defined]
        issuer.requests.append(self.rfile.readline().decode())
        while self.rfile.readline().strip():
            pass
        with suppress(OSError):
            self.wfile.write(issuer.answer)
            while issuer.then == "drip" and not issuer.stopped.wait(0.02):
                self.wfile.write(b"X-Drip: 1\r\n")
            while issuer.then == "forever" and not issuer.stopped.is_set():
                self.wfile.write(CHUNK)
                issuer.sent_bytes += len(CHUNK)
            if issuer.then == "hang":
                issuer.stopped.wait()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    context: ssl.SSLContext

    def finish_request(self, request: object, client_address: object) -> None:
        # In the thread of the request: a client may break off the TLS handshake.
        with suppress(OSError):
            connection = self.context.wrap_socket(request, server_side=True)  # type: ignore[arg-type]
            with connection:
                super().finish_request(connection, client_address)

    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing."""


@contextmanager
def running_issuer(folder: Path, *, port: int = 0) -> Iterator[Issuer]:
    """Run an issuer whose authority's certificate is in `folder`."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    ca_file = folder / "authority.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    with _Server(("127.0.0.1", port), _Handler) as server:
        server.context = context
        issuer = Issuer(url=f"https://127.0.0.1:{server.server_address[1]}/jwks.json?key=value", ca_file=ca_file)
        server.issuer = issuer  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield issuer
        finally:
            issuer.stopped.set()
            server.shutdown()
            thread.join()


def seconds_of(start: float) -> float:
    return time.monotonic() - start
