"""Verify the tokens of clients. What is wrong with one is for the log: clients read the same sentence for all of it."""

from __future__ import annotations

import asyncio
import re
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Final

from jwt.utils import base64url_decode, base64url_encode

from realtime.auth.identity import Identity
from realtime.auth.keys import Keys, configured_keys
from realtime.auth.revocation import is_revoked
from realtime.protocol.token_claims import (
    LEEWAY_SECONDS,
    InvalidClaims,
    TokenClaims,
    decode_claims,
    decode_token_header,
)

ONE_SENTENCE: Final = "The token is invalid or expired"
"""What a client reads, regardless of what is wrong."""

MAX_TOKEN_BYTES: Final = 8 * 1024
_SHAPE = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
_MALFORMED: Final = "not three parts in base64url"
_REFUSED_HEADERS: Final = ("crit", "jwk", "jku", "x5u", "b64")
"""Keys that a token brings along, and extensions that change what is signed."""


class InvalidToken(Exception):
    """Raised for a token that is not accepted. Its text is the same for every reason.

    Attributes:
        reason: What is wrong, for the log only. It contains nothing of the token.
        user_id: Whose token it is, if its signature is valid.
        token_id: Its id, if its signature is valid.
    """

    def __init__(self, reason: str, *, user_id: str = "", token_id: str | None = None) -> None:
        super().__init__(ONE_SENTENCE)
        self.reason = reason
        self.user_id = user_id
        self.token_id = token_id


class UnknownKey(InvalidToken):
    """Raised for a token that names a key that is not, or not yet, in the set."""


def verify(token: str, *, keys: Keys, now: float) -> Identity:
    """Return whose token this is. It has no side effects, and does not know of revocations.

    Args:
        token: A JSON Web Token.
        keys: What may have signed it.
        now: The time, in seconds since the epoch.

    Raises:
        InvalidToken: if it is not valid now.
    """
    claims = _claims(_payload(token, keys))
    reason = _invalid_claim(claims, keys=keys, now=now)
    if reason is not None:
        raise InvalidToken(reason, user_id=claims.user_id, token_id=claims.jti)
    return Identity(
        user_id=claims.user_id,
        permissions=claims.permissions,
        token_id=claims.jti,
        issued_at=claims.iat,
        expires_at=claims.exp,
    )


async def verify_token(token: str) -> Identity:
    """Return whose token this is, by the keys of the settings.

    Signatures are verified on the event loop: a thread for them costs more than the signature, and both less than the
    handshake (`docs/architecture.md`).

    Raises:
        InvalidToken: if it is not valid now, was revoked, or no keys are configured.
        django.db.Error: if it is not known whether it was revoked.
    """
    identity = await _verified(token)
    if await is_revoked(identity):
        raise InvalidToken("revoked", user_id=identity.user_id, token_id=identity.token_id)
    return identity


async def _verified(token: str) -> Identity:
    keys = configured_keys()
    try:
        return _verify_now(token, keys)
    except UnknownKey:
        if keys is None or keys.refresh is None:
            raise
        await asyncio.get_running_loop().run_in_executor(_refreshing_thread(), keys.refresh)
    return _verify_now(token, configured_keys())


def _verify_now(token: str, keys: Keys | None) -> Identity:
    if keys is None:
        raise InvalidToken("no keys are configured")
    return verify(token, keys=keys, now=time.time())


@cache
def _refreshing_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="jwks-refresh")


def _payload(token: str, keys: Keys) -> bytes:
    """Return the payload of a token in the compact serialization of RFC 7515, if a key has signed it."""
    if len(token) > MAX_TOKEN_BYTES:
        raise InvalidToken(f"longer than {MAX_TOKEN_BYTES} bytes")
    match = _SHAPE.fullmatch(token)
    if match is None:
        raise InvalidToken(_MALFORMED)
    header, payload, signature = (_decoded(part) for part in match.groups())
    algorithm, key_id = _algorithm_and_key_id(header)
    candidates = keys.candidates(key_id)
    if not candidates:
        raise UnknownKey("signed with an unknown key")
    named = [key for key in candidates if key.algorithm == algorithm]
    if not named:
        raise InvalidToken("the algorithm is not that of the key")
    signing_input = token[: match.end(2)].encode("ascii")
    if not any(key.is_signature(signature, signing_input) for key in named):
        raise InvalidToken("the signature is not valid")
    return payload


def _decoded(part: str) -> bytes:
    """Decode base64url without padding, in the only form that encodes these bytes."""
    try:
        decoded = base64url_decode(part)
    except ValueError:
        raise InvalidToken(_MALFORMED) from None
    if base64url_encode(decoded).decode("ascii") != part:
        raise InvalidToken(_MALFORMED)
    return decoded


def _algorithm_and_key_id(header: bytes) -> tuple[object, str | None]:
    try:
        names = decode_token_header(header)
    except InvalidClaims as error:
        raise InvalidToken(str(error)) from None
    for name in _REFUSED_HEADERS:
        if name in names:
            raise InvalidToken(f"`{name}` in its header")
    key_id = names.get("kid")
    if key_id is not None and not isinstance(key_id, str):
        raise InvalidToken("`kid` is not a text")
    return names.get("alg"), key_id


def _claims(payload: bytes) -> TokenClaims:
    try:
        return decode_claims(payload)
    except InvalidClaims as error:
        raise InvalidToken(str(error)) from None


def _invalid_claim(claims: TokenClaims, *, keys: Keys, now: float) -> str | None:
    """Return what is wrong with claims whose signature is valid."""
    if now >= claims.exp + LEEWAY_SECONDS:
        return "expired"
    if claims.nbf is not None and now < claims.nbf - LEEWAY_SECONDS:
        return "not valid yet (`nbf`)"
    if claims.iat is not None and now < claims.iat - LEEWAY_SECONDS:
        return "issued in the future (`iat`)"
    if claims.iat is not None and not 0 <= claims.iat <= claims.exp:
        return "`iat` is not before `exp`"
    lifetime = claims.exp - claims.iat if claims.iat is not None else claims.exp - now - LEEWAY_SECONDS
    if lifetime > keys.max_token_seconds:
        return f"valid for longer than {keys.max_token_seconds} s"
    if keys.audience and keys.audience not in claims.audiences:
        return "for another audience (`aud`)"
    if claims.audiences and not keys.audience:
        return "for an audience (`aud`), but none is configured"
    if keys.issuer and claims.iss != keys.issuer:
        return "from another issuer (`iss`)"
    return None
