"""The claims of a token: their types and sizes. Whether they hold now is for `realtime.auth.tokens`."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

MAX_USER_ID_LENGTH: Final = 128
MAX_TOKEN_ID_LENGTH: Final = 128
MAX_PERMISSIONS: Final = 100
MAX_PERMISSION_LENGTH: Final = 200

LEEWAY_SECONDS: Final = 30
"""How far the clocks of an issuer and of this server may differ."""

DEFAULT_MAX_TOKEN_SECONDS: Final = 24 * 3600
"""The longest lifetime of a token, without another setting."""

_Permission = Annotated[str, msgspec.Meta(max_length=MAX_PERMISSION_LENGTH)]


class InvalidClaims(ValueError):
    """Raised for claims with a wrong type or size. The message does not contain them."""


class TokenClaims(msgspec.Struct, frozen=True, kw_only=True):
    """The claims that mean something to this server. Times are whole seconds since the epoch."""

    exp: int
    user_id: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_USER_ID_LENGTH)]
    permissions: Annotated[tuple[_Permission, ...], msgspec.Meta(max_length=MAX_PERMISSIONS)] = ()
    aud: str | tuple[str, ...] | None = None
    iss: str | None = None
    nbf: int | None = None
    iat: int | None = None
    jti: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TOKEN_ID_LENGTH)] | None = None

    @property
    def audiences(self) -> tuple[str, ...]:
        """Whom the token is for."""
        if self.aud is None:
            return ()
        return (self.aud,) if isinstance(self.aud, str) else self.aud


_decode_claims = msgspec.json.Decoder(TokenClaims).decode
_decode_header = msgspec.json.Decoder(dict[str, Any]).decode
_encode_claims = msgspec.json.Encoder().encode
_UNDECODABLE = (msgspec.DecodeError, UnicodeError, RecursionError)


def decode_claims(payload: bytes) -> TokenClaims:
    """Decode the payload of a token.

    Raises:
        InvalidClaims: if it is not a JSON object with claims of these types and sizes, in printable text.
    """
    try:
        claims = _decode_claims(payload)
    except msgspec.ValidationError as error:
        # Such as "Expected `int`, got `str` - at `$.exp`": it names types and fields.
        raise InvalidClaims(str(error)) from None
    except _UNDECODABLE:
        raise InvalidClaims("the claims are not a JSON object") from None
    if not claims.user_id.isprintable() or not (claims.jti or "").isprintable():
        raise InvalidClaims("`user_id` or `jti` is not printable")
    return claims


def decode_token_header(header: bytes) -> dict[str, Any]:
    """Decode the header of a token.

    Raises:
        InvalidClaims: if it is not a JSON object.
    """
    try:
        return _decode_header(header)
    except _UNDECODABLE:
        raise InvalidClaims("the header is not a JSON object") from None


def encode_claims(claims: dict[str, Any]) -> bytes:
    """Return the payload of a token."""
    return _encode_claims(claims)
