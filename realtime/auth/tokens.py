"""Verify tokens: JSON Web Tokens (RFC 7519), signed by a key of this server's configuration.

Every token that is refused is refused with one sentence. The reason is for the log: it would help an attacker to guess,
and it never contains the token.
"""

from __future__ import annotations

from typing import Any, Final

import jwt

from realtime.auth.identity import Identity
from realtime.auth.keys import Keys, VerificationKey

INVALID_TOKEN: Final = "The token is invalid or expired"
"""What every client is answered whose token is refused, regardless of the reason."""

MAX_TOKEN_BYTES: Final = 8 * 1024
MAX_USER_ID_CHARACTERS: Final = 128
MAX_PERMISSIONS: Final = 100
MAX_PERMISSION_CHARACTERS: Final = 200
MAX_TOKEN_ID_CHARACTERS: Final = 128
LEEWAY_SECONDS: Final = 30
"""How far the clock of the issuer may be ahead or behind."""

_MAX_TIME: Final = 2**53
_REFUSED_HEADERS: Final = frozenset({"crit", "jwk", "jku", "x5u", "x5c", "b64"})
"""They would let a token choose its own key, or the way it is verified."""

_decoder = jwt.PyJWT()
_SIGNATURE_ONLY: Final[Any] = {
    # The claims are checked here, with the time of the caller.
    **dict.fromkeys(
        ("verify_exp", "verify_nbf", "verify_iat", "verify_aud", "verify_iss", "verify_sub", "verify_jti"), False
    ),
    "enforce_minimum_key_length": True,
}


class InvalidToken(Exception):
    """A token is refused.

    Attributes:
        reason: Why, for the log. It contains nothing of the token but the names of its claims.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def verify(token: str, *, keys: Keys, now: float) -> Identity:
    """Return the identity that a token proves.

    Args:
        token: The token, as the client sent it.
        keys: What it is checked against.
        now: The time, in seconds since the epoch.

    Raises:
        InvalidToken
    """
    if len(token) > MAX_TOKEN_BYTES or not token.isascii():
        raise InvalidToken(f"not ASCII of at most {MAX_TOKEN_BYTES} bytes")
    claims = _claims(token, keys)
    _check_origin(claims, keys)
    expires_at, issued_at = _check_times(claims, max_seconds=keys.max_token_seconds, now=now)
    return Identity(
        user_id=_user_id(claims),
        permissions=_permissions(claims),
        token_id=_token_id(claims),
        issued_at=issued_at,
        expires_at=expires_at,
    )


def _claims(token: str, keys: Keys) -> dict[str, Any]:
    """Return the claims of a token whose signature is valid."""
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise InvalidToken(f"not a token ({type(error).__name__})") from None
    if refused := sorted(_REFUSED_HEADERS & header.keys()):
        raise InvalidToken(f"header {refused[0]}")
    candidates = [key for key in keys.keys if _may_verify(key, header)]
    if not candidates:
        raise InvalidToken("no key for its kid")
    for key in candidates:
        try:
            return _decoder.decode(token, key.key, algorithms=[key.algorithm], options=_SIGNATURE_ONLY)
        except (jwt.InvalidSignatureError, jwt.InvalidAlgorithmError):
            continue
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            raise InvalidToken(f"cannot be decoded ({type(error).__name__})") from None
    raise InvalidToken("no key verifies its signature")


def _may_verify(key: VerificationKey, header: dict[str, Any]) -> bool:
    return key.key_id is None or header.get("kid") is None or header["kid"] == key.key_id


def _check_origin(claims: dict[str, Any], keys: Keys) -> None:
    if keys.audience is not None:
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        if keys.audience not in audiences:
            raise InvalidToken("claim aud")
    if keys.issuer is not None and claims.get("iss") != keys.issuer:
        raise InvalidToken("claim iss")


def _check_times(claims: dict[str, Any], *, max_seconds: int, now: float) -> tuple[float, float | None]:
    """Return when a token expires, and when it was issued if it has that claim."""
    expires_at = _time(claims, "exp")
    if expires_at is None:
        raise InvalidToken("no claim exp")
    issued_at, not_before = _time(claims, "iat"), _time(claims, "nbf")
    if expires_at <= now - LEEWAY_SECONDS:
        raise InvalidToken("expired")
    if expires_at > now + max_seconds + LEEWAY_SECONDS:
        raise InvalidToken(f"expires in more than {max_seconds} s")
    if any(time is not None and time > now + LEEWAY_SECONDS for time in (issued_at, not_before)):
        raise InvalidToken("not valid yet")
    if issued_at is not None and expires_at - issued_at > max_seconds:
        raise InvalidToken(f"lifetime of more than {max_seconds} s")
    return expires_at, issued_at


def _time(claims: dict[str, Any], name: str) -> int | None:
    """Return a claim that is a time, in whole seconds. Fractions, text and numbers such as 1e30 are refused."""
    value = claims.get(name)
    if value is None and name not in claims:
        return None
    if type(value) is not int or not 0 <= value <= _MAX_TIME:
        raise InvalidToken(f"claim {name}")
    return value


def _user_id(claims: dict[str, Any]) -> str:
    value = claims.get("user_id")
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_USER_ID_CHARACTERS or not value.isprintable():
        raise InvalidToken("claim user_id")
    return value


def _permissions(claims: dict[str, Any]) -> tuple[str, ...]:
    value = claims.get("permissions", [])
    is_valid = isinstance(value, list) and len(value) <= MAX_PERMISSIONS
    if not is_valid or not all(isinstance(item, str) and len(item) <= MAX_PERMISSION_CHARACTERS for item in value):
        raise InvalidToken("claim permissions")
    return tuple(value)


def _token_id(claims: dict[str, Any]) -> str | None:
    value = claims.get("jti")
    if value is None and "jti" not in claims:
        return None
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_TOKEN_ID_CHARACTERS or not value.isprintable():
        raise InvalidToken("claim jti")
    return value
