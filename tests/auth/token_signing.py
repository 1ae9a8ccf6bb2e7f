"""Tokens with any header and claims, signed with secrets or with the keys of an issuer that the tests play."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm, get_default_algorithms
from jwt.utils import base64url_encode

USER = "ada"
PERMISSIONS = ["workflow:read", "operate:nightly_*"]

SECRET = "gq4VdmxT0ZB1yJrwL7s2nKcPfE8oHuXa9QtRi6Ye5Dk"
PREVIOUS_SECRET = "Zt8nWcQ1bX5vJkR0eMy7sHpL3aGfUd9oTi2Ng6rVw4E"
OTHER_SECRET = "uB7kPz3XwQe9LmT1rYc5vNa8JgHd2fSo6KiEx4ZqW0M"
AUDIENCE, ISSUER = "mahavishnu", "https://issuer.example"

MAX_TOKEN_SECONDS = 24 * 3600

SECRET_VARIABLES = {"MAHAVISHNU_JWT_SECRET": SECRET, "MAHAVISHNU_JWT_SECRET_PREVIOUS": PREVIOUS_SECRET}


def segment(content: bytes) -> str:
    return base64url_encode(content).decode()


def assemble(header: object, payload: object, sign: Callable[[bytes], bytes]) -> str:
    """Return a token with any header and payload: bytes, or what JSON can express."""
    parts = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in (header, payload)]
    text = ".".join(map(segment, parts))
    return f"{text}.{segment(sign(text.encode()))}"


def hs256(secret: str | bytes = SECRET) -> Callable[[bytes], bytes]:
    key = secret.encode() if isinstance(secret, str) else secret
    return lambda text: hmac.new(key, text, hashlib.sha256).digest()


def claims_for(now: int, **changes: Any) -> dict[str, Any]:
    """Return good claims with these changes; `...` removes a claim."""
    claims = {"user_id": USER, "permissions": PERMISSIONS, "iat": now, "exp": now + 600, **changes}
    return {name: value for name, value in claims.items() if value is not ...}


def secret_token(*, secret: str = SECRET, header: dict[str, Any] | None = None, **changes: Any) -> str:
    """Return a token signed with a secret, now."""
    payload = claims_for(int(time.time()), **changes)
    return assemble({"alg": "HS256", "typ": "JWT", **(header or {})}, payload, hs256(secret))


# The keys of the issuer, made once in a process.

ALGORITHMS = {"rs": "RS256", "rs-without-alg": "RS256", "ps": "PS256", "es": "ES256", "ed": "EdDSA"}
"""The keys of the JWKS that verify tokens, by id."""

UNUSABLE = {"weak": "RS256", "for-encryption": "ES256", "p-384": "ES384", "private": "ES256", "rs-512": "RS512"}
"""The keys of the JWKS that must not verify any token, besides the symmetric one."""


@cache
def private_key(key_id: str) -> Any:
    if key_id in ("rs-without-alg", "ps", "rs-512"):
        return private_key("rs")
    if key_id in ("rs", "weak"):
        return rsa.generate_private_key(public_exponent=65537, key_size=2048 if key_id == "rs" else 1024)
    if key_id == "ed":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(ec.SECP384R1() if key_id == "p-384" else ec.SECP256R1())


def jwk_of(key_id: str) -> dict[str, Any]:
    """Return the public JWK of a key, and the private one of the key `private`."""
    key = private_key(key_id)
    public = key if key_id == "private" else key.public_key()
    algorithm = {**ALGORITHMS, **UNUSABLE}[key_id]
    kind: Any = {"R": RSAAlgorithm, "P": RSAAlgorithm, "E": ECAlgorithm}[algorithm[0]]
    jwk: dict[str, Any] = (OKPAlgorithm if key_id == "ed" else kind).to_jwk(public, as_dict=True)
    jwk |= {"kid": key_id, "use": "enc" if key_id == "for-encryption" else "sig"}
    jwk.pop("key_ops", None)
    return jwk if key_id == "rs-without-alg" else {**jwk, "alg": algorithm}


@cache
def jwks() -> str:
    """Return the JWKS of the issuer."""
    symmetric = {"kty": "oct", "kid": "oct", "alg": "HS256", "k": segment(OTHER_SECRET.encode())}
    return json.dumps({"keys": [symmetric, *map(jwk_of, [*UNUSABLE, *ALGORITHMS])]})


def jwks_variables(folder: Path) -> dict[str, str]:
    """Write the JWKS to a folder, and return the variables of a server that uses it."""
    path = folder / "issuer-jwks.json"
    path.write_text(jwks(), encoding="utf-8")
    return {
        "MAHAVISHNU_JWT_JWKS": str(path),
        "MAHAVISHNU_JWT_AUDIENCE": AUDIENCE,
        "MAHAVISHNU_JWT_ISSUER": ISSUER,
    }


def issued_token(
    key_id: str | None = "es",
    *,
    algorithm: str | None = None,
    signed_by: str | None = None,
    header: dict[str, Any] | None = None,
    **changes: Any,
) -> str:
    """Return a token of the issuer, signed now.

    Args:
        key_id: The `kid`; None for none.
        algorithm: The algorithm, if not that of the key.
        signed_by: The key, if not that of the `kid`.
        header: More of the header.
        changes: Other claims; `...` removes one.
    """
    signer = signed_by or key_id or "es"
    algorithm = algorithm or {**ALGORITHMS, **UNUSABLE}.get(signer, "ES256")
    names = {"alg": algorithm, **({} if key_id is None else {"kid": key_id}), **(header or {})}
    payload = claims_for(int(time.time()), **{"aud": AUDIENCE, "iss": ISSUER, **changes})
    return assemble(names, payload, lambda text: get_default_algorithms()[algorithm].sign(text, private_key(signer)))


def public_key(form: str) -> bytes:
    """Return the public RSA key in a form that a careless server would take for a secret."""
    key = private_key("rs").public_key()
    info = serialization.PublicFormat.SubjectPublicKeyInfo
    if form == "pem":
        return bytes(key.public_bytes(serialization.Encoding.PEM, info))
    if form == "der":
        return bytes(key.public_bytes(serialization.Encoding.DER, info))
    if form == "n":
        return str(jwk_of("rs")["n"]).encode()
    return json.dumps(jwk_of("rs")).encode()


def with_public_key_as_secret(form: str) -> str:
    payload = claims_for(int(time.time()), aud=AUDIENCE, iss=ISSUER)
    return assemble({"alg": "HS256", "kid": "rs"}, payload, hs256(public_key(form)))
