"""Tokens, good and bad: each case is a name and a token made of the keys of the tests."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from realtime.auth.keys import Keys, VerificationKey, parse_jwks, secret_key

SECRET = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOP"
PREVIOUS_SECRET = "FEDCBAzyxwvutsrqponmlkjihgfedcba9876543210"
OTHER_SECRET = "another-secret-0123456789abcdefghijklmnopq"
AUDIENCE = "mahavishnu"
ISSUER = "https://issuer.example"
DAY_SECONDS = 24 * 3600


@cache
def private_key(kind: str) -> Any:
    if kind == "RS256":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ec.generate_private_key(ec.SECP256R1()) if kind == "ES256" else ed25519.Ed25519PrivateKey.generate()


def public_jwk(kind: str) -> dict[str, Any]:
    algorithm = jwt.get_algorithm_by_name(kind)
    return {**algorithm.to_jwk(private_key(kind).public_key(), as_dict=True), "kid": kind, "alg": kind, "use": "sig"}


def jwks(*keys: Any) -> bytes:
    return json.dumps({"keys": keys}).encode()


def public_pem(kind: str) -> bytes:
    pem: bytes = (
        private_key(kind)
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return pem


def secret_keys(**options: Any) -> Keys:
    return Keys(keys=(secret_key(SECRET), secret_key(PREVIOUS_SECRET)), **options)


@cache
def public_keys() -> Keys:
    return Keys(keys=parse_jwks(jwks(*map(public_jwk, ("RS256", "ES256", "EdDSA")))))


def claims(**changes: Any) -> dict[str, Any]:
    """Return valid claims with these changes; None removes a claim."""
    now = int(time.time())
    changed = {"user_id": "ada", "permissions": ["workflow:read"], "exp": now + 600, "iat": now} | changes
    return {name: value for name, value in changed.items() if value is not None}


def signed(key: Any = SECRET, algorithm: str = "HS256", headers: dict[str, Any] | None = None, **changes: Any) -> str:
    return jwt.encode(claims(**changes), key, algorithm=algorithm, headers=headers)


def raw(header: Mapping[str, Any], payload: bytes, key: bytes) -> str:
    """Sign any bytes with HMAC, with any header: what no library would make."""
    parts = [json.dumps(dict(header)).encode(), payload]
    text = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = base64.urlsafe_b64encode(hmac.new(key, text, hashlib.sha256).digest()).rstrip(b"=")
    return (text + b"." + signature).decode()


def _raw_claims(header: Mapping[str, Any], key: bytes = SECRET.encode(), **changes: Any) -> str:
    return raw({"alg": "HS256", "typ": "JWT"} | dict(header), json.dumps(claims(**changes)).encode(), key)


def _public_key_as_secret(kind: str) -> str:
    return _raw_claims({"kid": kind}, key=public_pem(kind))


GOOD: dict[str, Callable[[], str]] = {
    "secret": signed,
    "previous secret": lambda: signed(PREVIOUS_SECRET),
    "no iat": lambda: signed(iat=None),
    "nbf in the past": lambda: signed(nbf=int(time.time()) - 5),
    "nbf within the leeway": lambda: signed(nbf=int(time.time()) + 20),
    "iat within the leeway": lambda: signed(iat=int(time.time()) + 20),
    "expired within the leeway": lambda: signed(exp=int(time.time()) - 5),
    "longest lifetime": lambda: signed(exp=int(time.time()) + DAY_SECONDS - 1),
    "token id": lambda: signed(jti="token-1"),
    "unknown claim": lambda: signed(name="Ada Lovelace", sub="someone else"),
    "claim sub of another type": lambda: signed(sub=7),
    "no permissions": lambda: signed(permissions=None),
    "empty permissions": lambda: signed(permissions=[]),
    "unknown permission": lambda: signed(permissions=["coffee:make"]),
    "100 permissions": lambda: signed(permissions=[f"workflow:read:{n}" for n in range(100)]),
    "user of 128 characters": lambda: signed(user_id="u" * 128),
    "user of other letters": lambda: signed(user_id="Zoë"),
    "audience while none is required": lambda: signed(aud="elsewhere"),
    "unknown kid of a secret": lambda: signed(headers={"kid": "any"}),
}
"""Tokens that `secret_keys()` accepts."""

BAD: dict[str, Callable[[], str]] = {
    "empty": lambda: "",
    "no token": lambda: "hello",
    "two parts": lambda: ".".join(signed().split(".")[:2]),
    "four parts": lambda: signed() + ".x",
    "no signature": lambda: signed().rpartition(".")[0] + ".",
    "not ASCII": lambda: signed() + "é",
    "spaces": lambda: f" {signed()} x",
    "line break": lambda: signed() + "\n.",
    "9 KiB": lambda: signed(name="n" * 9 * 1024),
    "algorithm none": lambda: jwt.encode(claims(), "", algorithm="none"),
    "algorithm None in capitals": lambda: _raw_claims({"alg": "NONE"}),
    "algorithm HS384": lambda: signed(SECRET, "HS384"),
    "algorithm in lower case": lambda: _raw_claims({"alg": "hs256"}),
    "algorithm as a list": lambda: _raw_claims({"alg": ["HS256"]}),
    "another secret": lambda: signed(OTHER_SECRET),
    "empty secret": lambda: _raw_claims({}, key=b""),
    "changed claims": lambda: ".".join(
        (signed().split(".")[0], signed(user_id="eve").split(".")[1], signed().split(".")[2])
    ),
    "RS256": lambda: signed(private_key("RS256"), "RS256"),
    "ES256": lambda: signed(private_key("ES256"), "ES256"),
    "header crit": lambda: _raw_claims({"crit": ["exp"], "exp": 1}),
    "header jwk": lambda: _raw_claims({"jwk": {"kty": "oct", "k": "AAAA"}}),
    "header jku": lambda: _raw_claims({"jku": "https://evil.example/keys"}),
    "header x5u": lambda: _raw_claims({"x5u": "https://evil.example/cert"}),
    "header b64": lambda: _raw_claims({"b64": False}),
    "kid as a number": lambda: _raw_claims({"kid": 7}),
    "no exp": lambda: signed(exp=None),
    "exp in the past": lambda: signed(exp=int(time.time()) - 40),
    "exp as text": lambda: signed(exp=str(int(time.time()) + 600)),
    "exp as boolean": lambda: _raw_claims({}, exp=True),
    "exp as fraction": lambda: _raw_claims({}, exp=time.time() + 600.5),
    "exp 1e30": lambda: _raw_claims({}, exp=1e30),
    "exp of 40 digits": lambda: _raw_claims({}, exp=10**40),
    "exp negative": lambda: _raw_claims({}, exp=-1),
    "exp null": lambda: raw({"alg": "HS256"}, b'{"exp":null,"user_id":"ada"}', SECRET.encode()),
    "exp infinite": lambda: raw({"alg": "HS256"}, b'{"exp":Infinity,"user_id":"ada"}', SECRET.encode()),
    "lifetime of two days": lambda: signed(exp=int(time.time()) + 2 * DAY_SECONDS),
    "lifetime of two days, half over": lambda: signed(
        iat=int(time.time()) - DAY_SECONDS - 60, exp=int(time.time()) + DAY_SECONDS - 60
    ),
    "iat in an hour": lambda: signed(iat=int(time.time()) + 3600),
    "iat as text": lambda: signed(iat="now"),
    "nbf in an hour": lambda: signed(nbf=int(time.time()) + 3600),
    "no user": lambda: signed(user_id=None),
    "user as a number": lambda: signed(user_id=5),
    "empty user": lambda: signed(user_id=""),
    "user of 129 characters": lambda: signed(user_id="u" * 129),
    "user with a line break": lambda: signed(user_id="ada\nroot"),
    "permissions as text": lambda: signed(permissions="admin"),
    "permissions as object": lambda: signed(permissions={"admin": True}),
    "permission as a number": lambda: signed(permissions=[1]),
    "101 permissions": lambda: signed(permissions=["x"] * 101),
    "permission of 201 characters": lambda: signed(permissions=["x" * 201]),
    "token id as a number": lambda: signed(jti=None) and _raw_claims({}, jti=7),
    "empty token id": lambda: _raw_claims({}, jti=""),
    "claims are an array": lambda: raw({"alg": "HS256"}, b"[]", SECRET.encode()),
    "claims are no JSON": lambda: raw({"alg": "HS256"}, b"exp", SECRET.encode()),
    "claims nested deeply": lambda: raw({"alg": "HS256"}, b"[" * 5000 + b"]" * 5000, SECRET.encode()),
}
"""Tokens that `secret_keys()` refuses."""

BAD_FOR_PUBLIC_KEYS: dict[str, Callable[[], str]] = {
    "public key as secret, RSA": lambda: _public_key_as_secret("RS256"),
    "public key as secret, EC": lambda: _public_key_as_secret("ES256"),
    "secret": signed,
    "another EC key": lambda: signed(ec.generate_private_key(ec.SECP256R1()), "ES256", {"kid": "ES256"}),
    "RSA key as PS256": lambda: signed(private_key("RS256"), "PS256", {"kid": "RS256"}),
    "unknown kid": lambda: signed(private_key("ES256"), "ES256", {"kid": "unknown"}),
    "kid of another key": lambda: signed(private_key("ES256"), "ES256", {"kid": "RS256"}),
}
"""Tokens that `public_keys()` refuses."""


def verification_key(kind: str) -> VerificationKey:
    return next(key for key in public_keys().keys if key.key_id == kind)
