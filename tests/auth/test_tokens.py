"""`verify`: each token of the tables, and what is left of it in errors."""

from __future__ import annotations

import time

import pytest

from realtime.auth.identity import Identity
from realtime.auth.jwks import parse_jwks
from realtime.auth.keys import Keys, keys_of_secrets
from realtime.auth.tokens import ONE_SENTENCE, InvalidToken, UnknownKey, verify
from realtime.protocol.token_claims import LEEWAY_SECONDS
from tests.auth.token_cases import JWKS_CASES, SECRET_CASES, TokenCase
from tests.auth.token_signing import (
    AUDIENCE,
    ISSUER,
    MAX_TOKEN_SECONDS,
    PERMISSIONS,
    PREVIOUS_SECRET,
    SECRET,
    issued_token,
    jwks,
    secret_token,
)

SECRET_KEYS = keys_of_secrets(SECRET, PREVIOUS_SECRET, max_token_seconds=MAX_TOKEN_SECONDS)


@pytest.fixture(scope="module")
def issuer_keys() -> Keys:
    return Keys(keys=parse_jwks(jwks().encode()), audience=AUDIENCE, issuer=ISSUER)


def check(case: TokenCase, keys: Keys) -> None:
    token = case.token()
    if case.accepted:
        assert verify(token, keys=keys, now=time.time()).user_id == case.user_id
        return
    with pytest.raises(InvalidToken) as raised:
        verify(token, keys=keys, now=time.time())
    error = raised.value
    assert str(error) == ONE_SENTENCE
    assert error.reason
    shown = f"{error.reason} {error!r} {error.user_id} {error.token_id}"
    hidden = [part for part in token.split(".") if len(part) > 8]
    assert [part for part in (*hidden, SECRET) if part in shown] == []


@pytest.mark.parametrize("case", SECRET_CASES, ids=repr)
def test_verify_with_secrets(case: TokenCase) -> None:
    check(case, SECRET_KEYS)


@pytest.mark.parametrize("case", JWKS_CASES, ids=repr)
def test_verify_with_public_keys(case: TokenCase, issuer_keys: Keys) -> None:
    check(case, issuer_keys)


def test_verify_returns_what_the_claims_contain() -> None:
    now = int(time.time())
    token = secret_token(iat=now, exp=now + 60, jti="token-1")
    assert verify(token, keys=SECRET_KEYS, now=now) == Identity(
        user_id="ada",
        permissions=tuple(PERMISSIONS),
        token_id="token-1",
        issued_at=now,
        expires_at=now + 60,
    )


def test_verify_allows_clocks_to_differ_by_30_seconds() -> None:
    now = int(time.time())
    token = secret_token(iat=now, nbf=now, exp=now + 60)
    assert LEEWAY_SECONDS == 30
    for allowed in (now - 30, now + 89):
        assert verify(token, keys=SECRET_KEYS, now=allowed).user_id == "ada"
    for refused in (now - 31, now + 90):
        with pytest.raises(InvalidToken):
            verify(token, keys=SECRET_KEYS, now=refused)


def test_reason_names_the_user_only_if_the_signature_is_valid() -> None:
    now = int(time.time())
    with pytest.raises(InvalidToken) as expired:
        verify(secret_token(jti="token-1"), keys=SECRET_KEYS, now=now + 3600)
    assert (expired.value.reason, expired.value.user_id, expired.value.token_id) == ("expired", "ada", "token-1")
    with pytest.raises(InvalidToken) as forged:
        verify(secret_token(secret="x" * 32), keys=SECRET_KEYS, now=now)
    assert (forged.value.reason, forged.value.user_id) == ("the signature is not valid", "")


def test_token_without_kid_is_for_the_only_key_of_a_set(issuer_keys: Keys) -> None:
    (only,) = (key for key in issuer_keys.keys if key.key_id == "es")
    keys = Keys(keys=(only,))
    assert verify(issued_token(None, aud=..., iss=...), keys=keys, now=time.time()).user_id == "ada"
    with pytest.raises(UnknownKey):
        verify(issued_token("rs", aud=..., iss=...), keys=keys, now=time.time())


def test_no_repr_contains_a_secret() -> None:
    assert SECRET not in f"{SECRET_KEYS!r} {SECRET_KEYS.keys!r} {vars(SECRET_KEYS)!r}"
