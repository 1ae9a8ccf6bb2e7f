"""One key that verifies tokens. The algorithm belongs to the key: what the header of a token names must be the same."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from jwt.algorithms import Algorithm
from jwt.api_jwk import PyJWK
from jwt.api_jws import PyJWS
from jwt.exceptions import PyJWTError
from jwt.utils import base64url_encode

from realtime.auth.secret_strength import secret_weakness

MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 8192
"""Verifying takes longer with the square of the bits: 0.4 ms with these."""

MAX_KEY_ID_LENGTH: Final = 200

_JWS: Final = PyJWS(["HS256"])

_ALGORITHMS: Final[dict[tuple[str | None, str | None], tuple[str, ...]]] = {
    ("RSA", None): ("RS256", "PS256"),
    ("EC", "P-256"): ("ES256",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
"""The algorithms of asymmetric keys by `kty` and `crv`. The first is that of a key without `alg`."""


class UnusableKey(ValueError):
    """Raised for a key that cannot verify tokens. The message does not contain the key."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A key and its only algorithm.

    Attributes:
        key_id: What a token names as `kid` to be verified with this key; None for a secret.
        algorithm: The algorithm, such as `ES256`.
    """

    key_id: str | None
    algorithm: str
    _jwk: PyJWK = field(repr=False, compare=False)
    _verifier: Algorithm = field(repr=False, compare=False)
    _prepared_key: Any = field(repr=False, compare=False)

    @property
    def is_asymmetric(self) -> bool:
        """Whether it is a public key: it verifies, and cannot sign."""
        return self.algorithm != "HS256"

    def is_signature(self, signature: bytes, signing_input: bytes) -> bool:
        """Return whether a signature of this text is that of this key, by the algorithm of this key."""
        return self._verifier.verify(signing_input, self._prepared_key, signature)

    def sign(self, payload: bytes) -> str:
        """Return a token with this payload. Only a secret can sign."""
        return _JWS.encode(payload, self._jwk, algorithm=self.algorithm)


def key_of_secret(secret: str) -> VerificationKey:
    """Return the key of a secret.

    Raises:
        UnusableKey: if it can be guessed.
    """
    if weakness := secret_weakness(secret):
        raise UnusableKey(weakness)
    encoded = base64url_encode(secret.strip().encode("utf-8", "surrogateescape")).decode()
    return _prepared(None, "HS256", PyJWK({"kty": "oct", "k": encoded}, "HS256"))


def key_of_jwk(jwk: object) -> VerificationKey:
    """Return the key that a public JWK describes.

    Raises:
        UnusableKey: if it is symmetric, private, too short, for something else than signatures, or malformed.
    """
    if not isinstance(jwk, dict):
        raise UnusableKey("not a JSON object")
    if "d" in jwk or "k" in jwk:
        raise UnusableKey("secret: a published set must contain public keys only")
    algorithms = _ALGORITHMS.get((_text(jwk, "kty"), None if jwk.get("kty") == "RSA" else _text(jwk, "crv")), ())
    algorithm = _text(jwk, "alg") or (algorithms[0] if algorithms else None)
    if algorithm is None or algorithm not in algorithms:
        raise UnusableKey("not for RS256, PS256, ES256 or EdDSA with Ed25519")
    key_ops = jwk.get("key_ops", ["verify"])
    if jwk.get("use", "sig") != "sig" or not isinstance(key_ops, list) or "verify" not in key_ops:
        raise UnusableKey("not for signatures")
    key_id = _text(jwk, "kid")
    if key_id is not None and len(key_id) > MAX_KEY_ID_LENGTH:
        raise UnusableKey(f"its `kid` is longer than {MAX_KEY_ID_LENGTH} characters")
    try:
        key = PyJWK(jwk, algorithm)
    except (PyJWTError, ValueError, TypeError):
        raise UnusableKey("malformed") from None
    bits = getattr(key.key, "key_size", 0)
    if jwk["kty"] == "RSA" and not MIN_RSA_BITS <= bits <= MAX_RSA_BITS:
        raise UnusableKey(f"{bits} bits: RSA keys have {MIN_RSA_BITS} to {MAX_RSA_BITS}")
    return _prepared(key_id, algorithm, key)


def _prepared(key_id: str | None, algorithm: str, jwk: PyJWK) -> VerificationKey:
    """Check and prepare a key once: PyJWT does it again for each token, which takes as long as an HMAC of it.

    Raises:
        UnusableKey: if it belongs to another algorithm, or is too short for this one.
    """
    verifier = jwk.Algorithm
    try:
        prepared_key = verifier.prepare_key(jwk.key)
    except (PyJWTError, ValueError, TypeError):
        raise UnusableKey(f"not for {algorithm}") from None
    if verifier.check_key_length(prepared_key):
        raise UnusableKey(f"too short for {algorithm}")
    return VerificationKey(key_id, algorithm, jwk, verifier, prepared_key)


def _text(jwk: dict[str, object], name: str) -> str | None:
    value = jwk.get(name)
    if value is not None and not isinstance(value, str):
        raise UnusableKey(f"its `{name}` is not a text")
    return value
