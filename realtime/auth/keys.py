"""The keys that verify tokens. Each key has one algorithm: neither a token nor a common list chooses it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from realtime.protocol.payload import decode_object

MAX_JWKS_BYTES: Final = 64 * 1024
MAX_JWKS_KEYS: Final = 64
MIN_RSA_BITS: Final = 2048
MIN_SECRET_BYTES: Final = 32
"""As long as the hash of HS256 (RFC 7518 section 3.2)."""
MIN_DIFFERENT_BYTES: Final = 16

_SECRET_ALGORITHM: Final = "HS256"
_ALGORITHMS: Final = {"RSA": ("RS256", "PS256"), "EC": ("ES256",), "OKP": ("EdDSA",)}
"""The algorithms of a public key, by its type (`kty`). The first is that of a key that names none."""
_CURVES: Final = {"EC": ("P-256",), "OKP": ("Ed25519",)}
_KEY_TEXTS: Final = ("-----BEGIN", "ssh-rsa ", "ssh-ed25519 ", "ecdsa-sha2-")
_PUBLISHED: Final = frozenset(
    {
        "your-256-bit-secret",
        "your-256-bit-secret-your-256-bit-secret",
        "a-string-secret-at-least-256-bits-long",
        "your-secret-key-change-this-in-production",
        "change-me-in-production-use-a-long-random-string",
    }
)
"""Secrets of well-known examples; anyone can guess them."""


class InvalidJwks(ValueError):
    """A set of public keys cannot be used. The message says why."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """One key.

    Attributes:
        algorithm: The algorithm of the signatures that it verifies.
        key: A secret, or a public key of `cryptography`.
        key_id: The header `kid` of the tokens that it verifies; None: it verifies tokens with any.
    """

    algorithm: str
    key: Any = field(repr=False)
    key_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Everything that a token is checked against.

    Attributes:
        keys: The keys. A token is valid if one of them verifies it.
        audience: What the claim `aud` of each token must contain, if not None.
        issuer: What the claim `iss` of each token must be, if not None.
        max_token_seconds: The longest time from now to the expiry of a token.
    """

    keys: tuple[VerificationKey, ...]
    audience: str | None = None
    issuer: str | None = None
    max_token_seconds: int = 24 * 3600


def secret_key(secret: str) -> VerificationKey:
    """Return the key of a secret, which verifies tokens that are signed with it (HS256)."""
    return VerificationKey(_SECRET_ALGORITHM, secret.strip().encode())


def secret_weakness(secret: str) -> str | None:
    """Return why a secret must not sign tokens; None if it may."""
    text = secret.strip()
    encoded = text.encode()
    if text.lower() in _PUBLISHED:
        return "it is published as an example"
    if text.startswith(_KEY_TEXTS) or _is_json_web_key(text):
        return "it is a key for another algorithm: public keys belong into MAHAVISHNU_JWT_JWKS"
    if len(encoded) < MIN_SECRET_BYTES:
        return f"{len(encoded)} bytes, of at least {MIN_SECRET_BYTES}"
    if len(set(encoded)) < MIN_DIFFERENT_BYTES:
        return f"{len(set(encoded))} different bytes, of at least {MIN_DIFFERENT_BYTES}"
    return None


def _is_json_web_key(text: str) -> bool:
    try:
        found = decode_object(text)
    except (ValueError, RecursionError):
        return False
    return "kty" in found or "keys" in found


def parse_jwks(text: bytes) -> tuple[VerificationKey, ...]:
    """Return the public keys of a JSON Web Key Set (RFC 7517). Secrets and keys for encryption are ignored.

    Raises:
        InvalidJwks: if it is none, is too large, or has no usable key.
    """
    if len(text) > MAX_JWKS_BYTES:
        raise InvalidJwks(f"the key set has {len(text)} bytes; expected at most {MAX_JWKS_BYTES}")
    try:
        listed = decode_object(text.decode()).get("keys")
    except (ValueError, RecursionError):
        raise InvalidJwks("the key set is not a JSON object") from None
    if not isinstance(listed, list):
        raise InvalidJwks("the key set has no array `keys`")
    if len(listed) > MAX_JWKS_KEYS:
        raise InvalidJwks(f"the key set has {len(listed)} keys; expected at most {MAX_JWKS_KEYS}")
    keys = tuple(key for item in listed if isinstance(item, dict) and (key := _public_key(item)) is not None)
    if not keys:
        raise InvalidJwks(
            f"the key set has no usable key: expected RSA of at least {MIN_RSA_BITS} bits, EC P-256 or Ed25519, for "
            "signatures"
        )
    return keys


def _public_key(item: dict[str, Any]) -> VerificationKey | None:
    kind, key_id = item.get("kty"), item.get("kid")
    algorithms = _ALGORITHMS.get(kind) if isinstance(kind, str) else None
    if algorithms is None or item.get("use", "sig") != "sig" or not isinstance(key_id, str | None):
        return None
    if kind in _CURVES and item.get("crv") not in _CURVES[kind]:
        return None
    algorithm = item.get("alg", algorithms[0])
    if algorithm not in algorithms:
        return None
    public = {name: value for name, value in item.items() if name in ("kty", "crv", "x", "y", "n", "e")}
    try:
        key = jwt.PyJWK(public, algorithm=algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    if isinstance(key, RSAPublicKey) and key.key_size < MIN_RSA_BITS:
        return None
    return VerificationKey(algorithm, key, key_id)
