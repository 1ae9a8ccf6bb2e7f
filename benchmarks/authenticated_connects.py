"""Connections with a token in the header, compared with connections to an open server.

Each round opens 1000 connections at once on a new server of each kind, and reads `session.created` on each. *Ratio* is
the processor time of the server for a connection, compared with the open server.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from benchmarks.accounting import cpu_ns
from benchmarks.contestants import Ours, ours
from benchmarks.report import Report, by_figure
from benchmarks.subscribers import Subscribers
from tests.harness.tokens import REQUIRES_AUTH, token

CONNECTIONS = 1000
_SETTLE_SECONDS = 1.0
KINDS = ("open", "HS256", "ES256")


def run(report: Report, *, rounds: int) -> None:
    """Measure all kinds in turn, each on a new server."""
    measured: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    for _ in range(rounds):
        for kind in KINDS:
            with _server(kind) as (server, headers):
                measured[kind].append(_measure(server, headers))
    fastest = {kind: min(figures["cpu_ms_per_connect"] for figures in measured[kind]) for kind in KINDS}
    for kind in KINDS:
        report.add(kind=kind, ratio=round(fastest[kind] / fastest["open"], 3), **by_figure(measured[kind]))


@contextmanager
def _server(kind: str) -> Iterator[tuple[Ours, Mapping[str, str]]]:
    if kind == "open":
        with ours() as server:
            yield server, {}
    elif kind == "HS256":
        with ours(**REQUIRES_AUTH) as server:
            yield server, {"Authorization": f"Bearer {token('admin')}"}
    else:
        key = ec.generate_private_key(ec.SECP256R1())
        now = int(time.time())
        claims = {"user_id": "ada", "permissions": ["admin"], "iat": now, "exp": now + 600}
        with tempfile.TemporaryDirectory() as folder:
            jwks = Path(folder) / "jwks.json"
            public = json.loads(ECAlgorithm.to_jwk(key.public_key())) | {"kid": "one", "alg": "ES256"}
            jwks.write_text(json.dumps({"keys": [public]}))
            signed = jwt.encode(claims, key, algorithm="ES256", headers={"kid": "one"})
            with ours(MAHAVISHNU_REQUIRE_AUTH="1", MAHAVISHNU_JWT_JWKS=str(jwks)) as server:
                yield server, {"Authorization": f"Bearer {signed}"}


def _measure(server: Ours, headers: Mapping[str, str]) -> dict[str, float]:
    subscribers = Subscribers()
    try:
        # The first connections load what all share: modules, threads, caches.
        subscribers.connect(server.port, 50, replies=1, headers=headers)
        subscribers.disconnect()
        time.sleep(_SETTLE_SECONDS)
        cpu = cpu_ns(server.pid)
        opened = subscribers.connect(server.port, CONNECTIONS, replies=1, headers=headers)
        return {
            "cpu_ms_per_connect": (cpu_ns(server.pid) - cpu) / 1e6 / CONNECTIONS,
            "welcomed_seconds": opened["answered_seconds"],
        }
    finally:
        subscribers.close()
