"""A JWKS from a real HTTPS server: what is accepted of it, and what happens when it fails."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from realtime.auth import jwks as jwks_module
from realtime.auth.jwks import MAX_KEYS, JwksSource, parse_jwks
from realtime.auth.jwks_download import MAX_JWKS_BYTES, UnavailableJwks, download
from realtime.auth.verification_key import VerificationKey
from tests.auth.issuer import Issuer, answer_with, running_issuer, seconds_of
from tests.auth.token_signing import ALGORITHMS, jwk_of, jwks

DAY_SECONDS = 24 * 3600

# The timeout of the whole, or that of the socket, which is the same.
LATE = r"no complete answer within 0\.3 s|no answer in time"


@pytest.fixture
def issuer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Issuer]:
    with running_issuer(tmp_path) as issuer:
        monkeypatch.setenv("SSL_CERT_FILE", str(issuer.ca_file))
        yield issuer


class Source:
    """The keys of a JWKS, as they were read last."""

    def __init__(self, place: str, *, cache_dir: Path | None = None, pause_seconds: float = 30.0) -> None:
        self.keys: list[tuple[VerificationKey, ...]] = []
        self.source = JwksSource(
            place, cache_dir=cache_dir, on_change=self.keys.append, refresh_pause_seconds=pause_seconds
        )

    def __enter__(self) -> Source:
        self.source.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.source.close()

    def ids(self) -> list[str | None]:
        return [key.key_id for key in self.keys[-1]]


def test_only_public_keys_for_signatures_are_used() -> None:
    keys = parse_jwks(jwks().encode())
    assert {key.key_id: key.algorithm for key in keys} == ALGORITHMS


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "not a JSON object"),
        ("[]", "not a JSON object"),
        ("[" * 5000, "not a JSON object"),
        ("{}", "without a list of `keys`"),
        ('{"keys": {}}', "without a list of `keys`"),
        ('{"keys": []}', "no usable key"),
        ('{"keys": ["x", 5, null]}', "no usable key"),
        ('{"keys": [{"kty": "oct", "k": "AAAA"}]}', "secret"),
        ('{"keys": [{"kty": "EC", "crv": "P-256", "x": "AAAA", "y": 5}]}', "malformed"),
        ('{"keys": [{"kty": "RSA", "n": "AQ", "e": "AQAB"}]}', "no usable key"),
        ('{"keys": [{"kty": ["EC"], "crv": "P-256"}]}', "is not a text"),
        (json.dumps({"keys": [{}] * (MAX_KEYS + 1)}), "65 keys, of at most 64"),
    ],
)
def test_malformed_sets_are_refused(content: str, reason: str) -> None:
    with pytest.raises(UnavailableJwks, match=reason):
        parse_jwks(content.encode())


def test_second_key_with_the_same_id_is_ignored() -> None:
    (key,) = parse_jwks(json.dumps({"keys": [jwk_of("es"), {**jwk_of("ed"), "kid": "es"}]}).encode())
    assert key.algorithm == "ES256"


def test_download_returns_the_answer_and_sends_the_query(issuer: Issuer) -> None:
    assert download(issuer.url).decode() == jwks()
    assert issuer.requests == ["GET /jwks.json?key=value HTTP/1.1\r\n"]


@pytest.mark.parametrize(
    ("answer", "then", "reason"),
    [
        (b"", "hang", LATE),
        (b"HTTP/1.1 200 OK\r\n", "drip", LATE),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
            "hang",
            LATE,
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n", "forever", "more than 65536 bytes"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "forever", "more than 65536 bytes"),
        (answer_with(" " * (MAX_JWKS_BYTES + 1)), "close", "more than 65536 bytes"),
        (answer_with("", status="302 Found", headers="Location: https://127.0.0.1/\r\n"), "close", "redirects"),
        (answer_with(jwks(), status="404 Not Found"), "close", "status 404"),
        (answer_with(jwks(), headers="Content-Encoding: gzip\r\n"), "close", "a compressed answer"),
        (b"", "close", "RemoteDisconnected"),
        (b"SSH-2.0-OpenSSH\r\n", "close", "BadStatusLine"),
    ],
)
def test_download_refuses(issuer: Issuer, answer: bytes, then: str, reason: str) -> None:
    issuer.answer, issuer.then = answer, then
    start = time.monotonic()
    with pytest.raises(UnavailableJwks, match=reason):
        download(issuer.url, timeout_seconds=0.3 if then in ("hang", "drip") else 5)
    assert seconds_of(start) < 5
    # What the buffers of both sockets hold.
    assert issuer.sent_bytes < 32 * 1024 * 1024
    assert len(issuer.requests) == 1


def test_download_verifies_the_certificate(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(UnavailableJwks, match="its certificate is not valid"):
        download(issuer.url)
    assert issuer.requests == []


def test_keys_remain_in_use_when_the_issuer_goes_away(issuer: Issuer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), Source(issuer.url, pause_seconds=0) as source:
        issuer.answer = answer_with("", status="500 Oops")
        source.source.refresh()
        source.source.refresh()
        assert source.ids() == list(ALGORITHMS)
        issuer.answer = answer_with(json.dumps({"keys": [jwk_of("ed")]}))
        source.source.refresh()
        assert source.ids() == ["ed"]
    assert caplog.messages == [
        "Cannot read the JWKS of 127.0.0.1 (status 500); its last keys remain in use for 24.0 h",
        "The JWKS of 127.0.0.1 can be read again",
    ]


def test_keys_are_used_for_a_day_at_most(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks_module, "MAX_AGE_SECONDS", 0)
    with Source(issuer.url, pause_seconds=0) as source:
        issuer.answer = answer_with("{}")
        source.source.refresh()
        assert source.ids() == []


def test_start_uses_the_copy_of_the_same_url_from_the_last_day(issuer: Issuer, tmp_path: Path) -> None:
    with Source(issuer.url, cache_dir=tmp_path):
        pass
    (copy,) = tmp_path.glob("jwks-*.json")
    assert copy.read_text() == jwks()
    assert copy.stat().st_mode & 0o777 == 0o600
    issuer.answer = answer_with("", status="503 Later")
    with Source(issuer.url, cache_dir=tmp_path) as source:
        assert source.ids() == list(ALGORITHMS)
    with pytest.raises(UnavailableJwks, match=r"the JWKS of 127\.0\.0\.1 cannot be read: status 503"):
        Source(issuer.url.replace("key=value", "key=other"), cache_dir=tmp_path).source.start()
    os.utime(copy, (time.time() - DAY_SECONDS, time.time() - DAY_SECONDS))
    with pytest.raises(UnavailableJwks):
        Source(issuer.url, cache_dir=tmp_path).source.start()


def test_tokens_with_unknown_keys_cause_one_read_in_the_pause(issuer: Issuer) -> None:
    with Source(issuer.url) as source:
        threads = [threading.Thread(target=source.source.refresh) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(issuer.requests) == 2
        assert len(source.keys) == 2


def test_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    path.write_text(jwks())
    with Source(str(path), pause_seconds=0) as source:
        path.write_text(json.dumps({"keys": [jwk_of("es")]}))
        source.source.refresh()
        assert source.ids() == ["es"]
        path.unlink()
        source.source.refresh()
        assert source.ids() == ["es"]
    with pytest.raises(UnavailableJwks, match="No such file"):
        Source(str(path)).source.start()
