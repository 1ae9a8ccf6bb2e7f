"""Tokens: what is accepted and what is refused, and that no refusal shows anything of the token."""

from __future__ import annotations

import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from realtime.auth.keys import (
    InvalidJwks,
    Keys,
    VerificationKey,
    parse_jwks,
    secret_key,
    secret_weakness,
)
from realtime.auth.tokens import InvalidToken, verify
from tests.auth import token_cases
from tests.auth.token_cases import BAD, BAD_FOR_PUBLIC_KEYS, GOOD, SECRET, jwks, public_jwk, signed


@pytest.mark.parametrize("name", GOOD)
def test_valid_token_is_accepted(name: str) -> None:
    identity = verify(GOOD[name](), keys=token_cases.secret_keys(), now=time.time())
    assert identity.user_id
    assert identity.expires_at is not None


@pytest.mark.parametrize("name", BAD)
def test_invalid_token_is_refused_and_not_shown(name: str) -> None:
    token = BAD[name]()
    with pytest.raises(InvalidToken) as refused:
        verify(token, keys=token_cases.secret_keys(), now=time.time())
    shown = f"{refused.value!r} {refused.value}"
    assert not any(len(part) > 4 and part in shown for part in token.split("."))
    assert SECRET not in shown


@pytest.mark.parametrize("kind", ["RS256", "ES256", "EdDSA"])
def test_public_key_verifies_its_algorithm(kind: str) -> None:
    token = signed(token_cases.private_key(kind), kind, {"kid": kind}, jti="t1")
    identity = verify(token, keys=token_cases.public_keys(), now=time.time())
    assert (identity.user_id, identity.permissions, identity.token_id) == ("ada", ("workflow:read",), "t1")


@pytest.mark.parametrize("name", BAD_FOR_PUBLIC_KEYS)
def test_public_keys_refuse_forged_token(name: str) -> None:
    with pytest.raises(InvalidToken):
        verify(BAD_FOR_PUBLIC_KEYS[name](), keys=token_cases.public_keys(), now=time.time())


def test_identity_has_the_claims() -> None:
    now = int(time.time())
    identity = verify(signed(exp=now + 60, iat=now - 1, jti="j"), keys=token_cases.secret_keys(), now=now)
    assert (identity.expires_at, identity.issued_at, identity.token_id) == (now + 60, now - 1, "j")


@pytest.mark.parametrize("audience", ["mahavishnu", ["other", "mahavishnu"]])
def test_required_audience_is_accepted(audience: object) -> None:
    assert verify(signed(aud=audience), keys=token_cases.secret_keys(audience="mahavishnu"), now=time.time())


@pytest.mark.parametrize("audience", [None, "other", ["other"], [], "mahavishnu2", ["mahavishnu2"], 7, {}])
def test_missing_or_other_audience_is_refused(audience: object) -> None:
    with pytest.raises(InvalidToken, match="aud"):
        verify(signed(aud=audience), keys=token_cases.secret_keys(audience="mahavishnu"), now=time.time())


@pytest.mark.parametrize("issuer", [None, "https://evil.example", "https://issuer.example/"])
def test_missing_or_other_issuer_is_refused(issuer: object) -> None:
    keys = token_cases.secret_keys(issuer=token_cases.ISSUER)
    assert verify(signed(iss=token_cases.ISSUER), keys=keys, now=time.time())
    with pytest.raises(InvalidToken, match="iss"):
        verify(signed(iss=issuer), keys=keys, now=time.time())


def test_keys_show_no_secret() -> None:
    keys = token_cases.secret_keys()
    assert SECRET not in f"{keys!r} {keys} {keys.keys[0]!r}"


@pytest.mark.parametrize(
    ("secret", "reason"),
    [
        ("short", "5 bytes"),
        (" " * 40 + "short", "5 bytes"),
        ("ab" * 20, "2 different bytes"),
        ("your-256-bit-secret-your-256-bit-secret", "published"),
        ("A-String-Secret-At-Least-256-Bits-Long", "published"),
        (token_cases.public_pem("ES256").decode(), "another algorithm"),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIabcdefghijklmnop me", "another algorithm"),
        ('{"kty":"oct","k":"0123456789abcdefghijklmnopqrstuvwxyz"}', "another algorithm"),
        ('{"keys":[{"kty":"oct","k":"0123456789abcdefghijklmnop"}]}', "another algorithm"),
    ],
)
def test_weak_secret_has_a_reason(secret: str, reason: str) -> None:
    assert reason in (secret_weakness(secret) or "")


def test_strong_secret_has_no_weakness() -> None:
    assert secret_weakness(SECRET) is None
    assert secret_key(f"{SECRET}\n") == VerificationKey("HS256", SECRET.encode())


def test_jwks_ignores_keys_that_verify_no_signature() -> None:
    usable = public_jwk("ES256")
    others: list[Any] = [
        {"kty": "oct", "k": "AAAA", "kid": "secret"},
        {**usable, "use": "enc"},
        {**usable, "alg": "HS256"},
        {**usable, "alg": ["ES256"]},
        {**usable, "crv": "P-384"},
        {**usable, "x": "AAAA"},
        {**usable, "kid": 7},
        {"kty": ["EC"]},
        {},
        "text",
    ]
    assert [key.key_id for key in parse_jwks(jwks(*others, usable))] == ["ES256"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b"\xff", "not a JSON object"),
        (b"{}", "no array `keys`"),
        (b'{"keys": {}}', "no array `keys`"),
        (b'{"keys": []}', "no usable key"),
        (b'{"keys": [{"kty":"oct","k":"AAAA"}]}', "no usable key"),
        (b'{"keys": [' + b"{}," * 64 + b"{}]}", "65 keys"),
        (b" " * 65537, "65537 bytes"),
    ],
)
def test_unusable_jwks_is_refused(text: bytes, reason: str) -> None:
    with pytest.raises(InvalidJwks, match=reason):
        parse_jwks(text)


def test_short_rsa_key_is_not_usable() -> None:
    short = rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key()
    with pytest.raises(InvalidJwks, match="no usable key"):
        parse_jwks(jwks({**RSAAlgorithm.to_jwk(short, as_dict=True), "kid": "short"}))


def test_no_keys_refuse_every_token() -> None:
    with pytest.raises(InvalidToken, match="no key"):
        verify(signed(), keys=Keys(keys=()), now=time.time())
