"""The settings of tokens: what verifies them, and what their claims must contain."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from mahavishnu_site.env import Environment, UnexpectedValueError
from realtime.auth.secret_strength import secret_weakness
from realtime.protocol.token_claims import DEFAULT_MAX_TOKEN_SECONDS

SECRET_VARIABLES: Final = ("MAHAVISHNU_JWT_SECRET", "MAHAVISHNU_JWT_SECRET_PREVIOUS")

MAX_TOKEN_SECONDS = 366 * 24 * 3600
MAX_CLAIM_LENGTH = 512


@dataclass(frozen=True, kw_only=True)
class JwtSettings:
    """The settings whose names begin with `MAHAVISHNU_JWT_`, and MAHAVISHNU_MAX_TOKEN_SECONDS."""

    secret: str = field(repr=False)
    secret_previous: str = field(repr=False)
    jwks: str
    audience: str
    issuer: str
    max_token_seconds: int


def read_jwt_settings(environment: Environment, *, role: str, must_have_key: bool) -> JwtSettings:
    """Read the variables. A process whose role has no use for the secrets does not have them afterwards.

    Args:
        environment: Where they are.
        role: What this process is for. Workers and schedulers verify no tokens.
        must_have_key: Whether a server process without a key would refuse every client.
    """
    secret = previous = ""
    if role in ("web", "command"):
        secret = environment.secret("MAHAVISHNU_JWT_SECRET", weakness=secret_weakness)
        previous = environment.secret("MAHAVISHNU_JWT_SECRET_PREVIOUS", weakness=secret_weakness)
    else:
        _forget_secrets(environment)
    jwks = environment.read("MAHAVISHNU_JWT_JWKS", default="", parse=parse_jwks_place)
    if environment.is_set("MAHAVISHNU_JWT_JWKS") and any(map(environment.is_set, SECRET_VARIABLES)):
        # The query of a URL may contain a password.
        environment.add_error(
            "MAHAVISHNU_JWT_JWKS", value=jwks.partition("?")[0], expected="no value while MAHAVISHNU_JWT_SECRET is set"
        )
    elif previous and not secret:
        environment.add_error(
            "MAHAVISHNU_JWT_SECRET_PREVIOUS", value="***", expected="no value while MAHAVISHNU_JWT_SECRET is not set"
        )
    elif must_have_key and role == "web" and not secret and not environment.is_set("MAHAVISHNU_JWT_JWKS"):
        environment.add_error(
            "MAHAVISHNU_REQUIRE_AUTH",
            value="1",
            expected="a key that verifies tokens: set MAHAVISHNU_JWT_SECRET or MAHAVISHNU_JWT_JWKS too",
        )
    return JwtSettings(
        secret=secret,
        secret_previous=previous,
        jwks=jwks,
        audience=environment.read("MAHAVISHNU_JWT_AUDIENCE", default="", parse=parse_claim),
        issuer=environment.read("MAHAVISHNU_JWT_ISSUER", default="", parse=parse_claim),
        max_token_seconds=environment.whole_number(
            "MAHAVISHNU_MAX_TOKEN_SECONDS", default=DEFAULT_MAX_TOKEN_SECONDS, minimum=1, maximum=MAX_TOKEN_SECONDS
        ),
    )


def _forget_secrets(environment: Environment) -> None:
    for name in SECRET_VARIABLES:
        # Named here, so that no check warns about variables without effect.
        environment.is_set(name)
        environment.is_set(f"{name}_FILE")
        os.environ.pop(name, None)


def parse_jwks_place(value: str) -> str:
    """Return the URL of a JWKS, which begins with `https://`, or the path of a file."""
    if "://" not in value:
        if not os.path.isabs(value):
            raise UnexpectedValueError("the absolute path of a file, or a URL that begins with https://")
        return value
    try:
        url = urlsplit(value)
        is_usable = url.scheme == "https" and url.hostname and url.username is None and not url.fragment
        url.port  # noqa: B018 - raises for a number that is no port
    except ValueError:
        is_usable = False
    if not is_usable or not value.isascii() or not value.isprintable() or " " in value:
        raise UnexpectedValueError("a URL such as https://example.org/.well-known/jwks.json, or the path of a file")
    return value


def parse_claim(value: str) -> str:
    """Return what `aud` or `iss` of every token must be."""
    if len(value) > MAX_CLAIM_LENGTH or not value.isprintable():
        raise UnexpectedValueError(f"at most {MAX_CLAIM_LENGTH} printable characters")
    return value
