"""Tokens, good and bad, for every way in: `verify`, the handshake, the first message, and the API.

`SECRET_CASES` are for a server with `SECRET_VARIABLES`, `JWKS_CASES` for one with `jwks_variables()`, both of
`token_signing`. A token is made when it is needed, because it expires: `case.token()`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.auth.token_signing import (
    ALGORITHMS,
    AUDIENCE,
    ISSUER,
    MAX_TOKEN_SECONDS,
    OTHER_SECRET,
    PREVIOUS_SECRET,
    SECRET,
    UNUSABLE,
    USER,
    assemble,
    claims_for,
    hs256,
    issued_token,
    secret_token,
    segment,
    with_public_key_as_secret,
)


@dataclass(frozen=True, kw_only=True)
class TokenCase:
    """A token and what becomes of it.

    Attributes:
        name: What is special about it.
        token: Makes the token.
        accepted: Whether it lets its bearer in.
        user_id: Whose token it is, if it is accepted.
    """

    name: str
    token: Callable[[], str]
    accepted: bool
    user_id: str = USER

    @property
    def fits_header(self) -> bool:
        """Whether a header, and the name of a subprotocol, can contain the token unchanged (RFC 9110, `token`)."""
        return re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", self.token()) is not None

    def __repr__(self) -> str:
        return self.name


def _good(name: str, token: Callable[[], str], **more: Any) -> TokenCase:
    return TokenCase(name=name, token=token, accepted=True, **more)


def _bad(name: str, token: Callable[[], str]) -> TokenCase:
    return TokenCase(name=name, token=token, accepted=False)


def _with_claim(name: str, value: object, label: str = "") -> TokenCase:
    text = "missing" if value is ... else label or json.dumps(value)
    changes: dict[str, Any] = {name: value}
    return _bad(f"{name} is {text}", lambda: secret_token(**changes))


def _with_header(name: str, value: object, label: str = "") -> TokenCase:
    return _bad(f"header {name} is {label or json.dumps(value)}", lambda: secret_token(header={name: value}))


def _raw(name: str, header: object = None, payload: object = None, *, secret: str = SECRET) -> TokenCase:
    def token() -> str:
        return assemble(
            {"alg": "HS256"} if header is None else header,
            claims_for(int(time.time())) if payload is None else payload,
            hs256(secret),
        )

    return _bad(name, token)


def _without_signature(name: str, algorithm: object, signature: str = "") -> TokenCase:
    def token() -> str:
        return assemble({"alg": algorithm}, claims_for(int(time.time())), lambda _: b"").rpartition(".")[0]

    return _bad(name, lambda: f"{token()}.{signature}")


def _edited(name: str, edit: Callable[[str, str, str], str]) -> TokenCase:
    return _bad(name, lambda: edit(*secret_token().split(".")))


def _at(seconds: float) -> int:
    return int(time.time() + seconds)


def _exchanged_payload(header: str, payload: str, signature: str) -> str:
    return f"{header}.{segment(json.dumps(claims_for(_at(0), permissions=['admin'])).encode())}.{signature}"


def _flipped(header: str, payload: str, signature: str) -> str:
    return f"{header}.{payload}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"


def _payload_with(text: str) -> bytes:
    return json.dumps(claims_for(_at(0))).replace("{", "{" + text + ", ", 1).encode()


OWN_JWK = {"kty": "oct", "k": segment(OTHER_SECRET.encode())}

GOOD_SECRET_CASES = [
    _good("all claims", lambda: secret_token(nbf=_at(0), jti="token-1")),
    _good("only exp and user_id", lambda: secret_token(iat=..., permissions=...)),
    _good("signed with the previous secret", lambda: secret_token(secret=PREVIOUS_SECRET)),
    _good("nbf in 20 s", lambda: secret_token(nbf=_at(20))),
    _good("iat in 20 s", lambda: secret_token(iat=_at(20))),
    _good("the longest lifetime", lambda: secret_token(iat=_at(0), exp=_at(0) + MAX_TOKEN_SECONDS)),
    _good("a kid, which secrets do not have", lambda: secret_token(header={"kid": "any"})),
    _good("unknown claims and headers", lambda: secret_token(scope="x", sub=5, header={"cty": "x", "typ": 5})),
    _good("100 permissions", lambda: secret_token(permissions=[f"pool:read:{number}" for number in range(100)])),
    _good("unknown permissions", lambda: secret_token(permissions=["", "*", "root", "x" * 200])),
    _good("user_id of 128 characters", lambda: secret_token(user_id="u" * 128), user_id="u" * 128),
    _good("user_id beyond ASCII", lambda: secret_token(user_id="Zoë 林"), user_id="Zoë 林"),
]

SECRET_CASES = [
    *GOOD_SECRET_CASES,
    # The shape.
    _bad("no text", lambda: ""),
    _bad("two dots", lambda: ".."),
    _bad("a word", lambda: "secret"),
    _bad("the secret itself", lambda: SECRET),
    _edited("two parts", lambda header, payload, signature: f"{header}.{payload}"),
    _edited("four parts", lambda *parts: ".".join((*parts, parts[0]))),
    _edited("five parts, as an encrypted token", lambda *parts: ".".join((*parts, parts[0], parts[0]))),
    _edited("padding", lambda *parts: ".".join(parts) + "="),
    _edited("a line break at the end", lambda *parts: ".".join(parts) + "\n"),
    _edited("a space in front", lambda *parts: " " + ".".join(parts)),
    _edited("base64 of the other alphabet", lambda header, payload, signature: f"{header}.{payload}.+/{signature[2:]}"),
    _edited("a letter that is not ASCII", lambda *parts: ".".join(parts) + "é"),
    _bad("9 KiB", lambda: secret_token(padding="x" * 7000)),
    _raw("a header that is not JSON", b"{"),
    _raw("a header that is a list", ["HS256"]),
    _raw("a header that is nested deeply", b"[" * 3000),
    _raw("a header that is not UTF-8", b'{"alg": "HS256", "x": "\xff"}'),
    # The signature.
    _without_signature("alg none", "none"),
    _without_signature("alg None", "None"),
    _without_signature("alg nOnE with a signature", "nOnE", "AAAA"),
    _without_signature("HS256 without a signature", "HS256"),
    _without_signature("an empty alg", ""),
    _raw("no alg", {"typ": "JWT"}),
    _raw("alg is a number", {"alg": 256}),
    _raw("alg is a list", {"alg": ["HS256"]}),
    _raw("alg in lower case", {"alg": "hs256"}),
    _raw("alg RS256 with an HMAC", {"alg": "RS256"}),
    _raw("an HMAC of another secret", secret=OTHER_SECRET),
    _raw("an HMAC of an empty secret", secret=""),
    _bad(
        "HS512 with the secret",
        lambda: assemble(
            {"alg": "HS512"},
            claims_for(_at(0)),
            lambda text: hmac.new(SECRET.encode(), text, hashlib.sha512).digest(),
        ),
    ),
    _edited("a payload that was exchanged", _exchanged_payload),
    _edited("a bit that was flipped", _flipped),
    _edited("half a signature", lambda header, payload, signature: f"{header}.{payload}.{signature[:20]}"),
    # Headers.
    _with_header("crit", ["exp"]),
    _with_header("crit", []),
    _with_header("b64", True),
    _raw("b64 is false", {"alg": "HS256", "b64": False, "crit": ["b64"]}),
    _bad(
        "a jwk in the header",
        lambda: secret_token(secret=OTHER_SECRET, header={"jwk": OWN_JWK}),
    ),
    _with_header("jwk", OWN_JWK, "a good signature's companion"),
    _with_header("jku", "https://issuer.example/jwks.json"),
    _with_header("x5u", "https://issuer.example/chain.pem"),
    _with_header("kid", 5),
    _with_header("kid", ["x"]),
    # Times.
    _with_claim("exp", ...),
    _with_claim("exp", None),
    _with_claim("exp", True),
    _with_claim("exp", "99999999999"),
    _with_claim("exp", 1e30),
    _with_claim("exp", [1]),
    _bad("exp is a fraction", lambda: secret_token(exp=time.time() + 60)),
    _with_claim("exp", 0),
    _with_claim("exp", -1),
    _with_claim("exp", 10**400, "10 to the 400"),
    _raw("exp is not a number", payload=b'{"user_id": "ada", "exp": NaN}'),
    _bad("expired a minute ago", lambda: secret_token(iat=_at(-600), exp=_at(-60))),
    _bad("valid for too long", lambda: secret_token(exp=_at(MAX_TOKEN_SECONDS + 60))),
    _bad("valid for too long without iat", lambda: secret_token(iat=..., exp=_at(MAX_TOKEN_SECONDS + 60))),
    _bad("issued long ago for long", lambda: secret_token(iat=_at(-MAX_TOKEN_SECONDS), exp=_at(60))),
    _bad("nbf in a minute", lambda: secret_token(nbf=_at(60))),
    _bad("iat in a minute", lambda: secret_token(iat=_at(60))),
    _bad("iat after exp", lambda: secret_token(iat=_at(15), exp=_at(5))),
    _with_claim("nbf", "0"),
    _with_claim("iat", True),
    _with_claim("iat", -5),
    # Other claims.
    _with_claim("user_id", ...),
    _with_claim("user_id", None),
    _with_claim("user_id", ""),
    _with_claim("user_id", 5),
    _with_claim("user_id", ["ada"]),
    _with_claim("user_id", "u" * 129, "129 characters"),
    _with_claim("user_id", "ada\nroot"),
    _with_claim("user_id", "ada\u202e"),
    _with_claim("user_id", "\x00"),
    _with_claim("permissions", None),
    _with_claim("permissions", "admin"),
    _with_claim("permissions", {"admin": True}),
    _with_claim("permissions", ["admin", 5]),
    _with_claim("permissions", [["admin"]]),
    _with_claim("permissions", ["x"] * 101, "101 texts"),
    _with_claim("permissions", ["x" * 201], "a text of 201 characters"),
    _with_claim("jti", 5),
    _with_claim("jti", ""),
    _with_claim("jti", "a\nb"),
    _with_claim("jti", "x" * 129, "129 characters"),
    _with_claim("aud", AUDIENCE),
    _with_claim("aud", ["a", 5]),
    _with_claim("iss", 5),
    _raw("a payload that is not JSON", payload=b"ada"),
    _raw("a payload that is a list", payload=[1]),
    _raw("a payload that is nested deeply", payload=b"[" * 4000),
    _raw("a claim that is nested deeply", payload=b'{"x": ' + b"[" * 4000),
    _raw("a payload that is not UTF-8", payload=b'{"user_id": "\xff"}'),
]

JWKS_CASES = [
    *(_good(f"signed with the key {key_id}", partial(issued_token, key_id)) for key_id in ALGORITHMS),
    _good("several audiences", lambda: issued_token(aud=["x", AUDIENCE])),
    *(_bad(f"signed with the key {key_id}", partial(issued_token, key_id)) for key_id in UNUSABLE),
    *(
        _bad(f"HS256 with the {form} of the public key", partial(with_public_key_as_secret, form))
        for form in ("pem", "der", "n", "jwk")
    ),
    _bad(
        "HS256 with the symmetric key of the set",
        lambda: assemble(
            {"alg": "HS256", "kid": "oct"}, claims_for(_at(0), aud=AUDIENCE, iss=ISSUER), hs256(OTHER_SECRET)
        ),
    ),
    _bad("PS256 with the key for RS256", lambda: issued_token("rs", algorithm="PS256")),
    _bad("RS256 with the key for PS256", lambda: issued_token("ps", algorithm="RS256")),
    _bad("another algorithm than the key's, which signed it", lambda: issued_token("es", header={"alg": "EdDSA"})),
    _bad("RS512 with the key for RS256", lambda: issued_token("rs", algorithm="RS512")),
    _bad(
        "alg none", lambda: issued_token("es").replace(issued_token("es").partition(".")[0], segment(b'{"alg":"none"}'))
    ),
    _bad("no kid", lambda: issued_token(None)),
    _bad("an unknown kid", lambda: issued_token("es-2", signed_by="es")),
    _bad("an empty kid", lambda: issued_token("", signed_by="es")),
    _bad("the kid of another key", lambda: issued_token("ed", signed_by="es")),
    _bad("the kid is a path", lambda: issued_token("../../../../dev/null", signed_by="es")),
    _bad(
        "a signature of zeros",
        lambda: f"{issued_token('es').rpartition('.')[0]}.{segment(bytes(64))}",
    ),
    _bad("a signature of another key of the same kind", lambda: issued_token("es", signed_by="for-encryption")),
    _bad("no audience", lambda: issued_token(aud=...)),
    _bad("another audience", lambda: issued_token(aud="someone else")),
    _bad("an audience that begins like ours", lambda: issued_token(aud=f"{AUDIENCE}-2")),
    _bad("no audience in the list", lambda: issued_token(aud=[])),
    _bad("audience null", lambda: issued_token(aud=None)),
    _bad("no issuer", lambda: issued_token(iss=...)),
    _bad("another issuer", lambda: issued_token(iss=f"{ISSUER}/")),
    _bad("several issuers", lambda: issued_token(iss=[ISSUER])),
    _bad("expired", lambda: issued_token(iat=_at(-600), exp=_at(-60))),
]
