"""`verify_token`: the keys of the settings."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from realtime.auth.keys import configured_keys, require_usable_keys
from realtime.auth.revocation import revoke_token_id
from realtime.auth.tokens import InvalidToken, verify_token
from tests.auth.issuer import Issuer, answer_with, running_issuer
from tests.auth.token_signing import (
    AUDIENCE,
    ISSUER,
    OTHER_SECRET,
    PREVIOUS_SECRET,
    SECRET,
    issued_token,
    jwk_of,
    secret_token,
)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def issuer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Issuer]:
    """Return the issuer of the settings. The name of its host is part of no log line."""
    with running_issuer(tmp_path) as issuer:
        monkeypatch.setenv("SSL_CERT_FILE", str(issuer.ca_file))
        claims = {"MAHAVISHNU_JWT_AUDIENCE": AUDIENCE, "MAHAVISHNU_JWT_ISSUER": ISSUER}
        with override_settings(MAHAVISHNU_JWT_JWKS=issuer.url, MAHAVISHNU_VAR_DIR=tmp_path, **claims):
            yield issuer
    configured_keys()  # Ends the reads.


async def test_token_without_configured_keys_is_refused() -> None:
    with pytest.raises(InvalidToken) as raised:
        await verify_token(secret_token())
    assert raised.value.reason == "no keys are configured"


@override_settings(MAHAVISHNU_JWT_SECRET=SECRET, MAHAVISHNU_JWT_SECRET_PREVIOUS=PREVIOUS_SECRET)
async def test_both_secrets_are_accepted_until_the_previous_one_is_removed() -> None:
    for secret in (SECRET, PREVIOUS_SECRET):
        assert (await verify_token(secret_token(secret=secret))).user_id == "ada"
    with override_settings(MAHAVISHNU_JWT_SECRET_PREVIOUS=""):
        assert (await verify_token(secret_token())).user_id == "ada"
        with pytest.raises(InvalidToken):
            await verify_token(secret_token(secret=PREVIOUS_SECRET))


@override_settings(MAHAVISHNU_JWT_SECRET=SECRET)
async def test_revoked_token_is_refused() -> None:
    await sync_to_async(revoke_token_id)("lost")
    assert (await verify_token(secret_token(jti="kept"))).token_id == "kept"
    with pytest.raises(InvalidToken) as raised:
        await verify_token(secret_token(jti="lost"))
    assert (raised.value.reason, raised.value.user_id, raised.value.token_id) == ("revoked", "ada", "lost")


async def test_new_key_of_the_issuer_is_read_when_a_token_names_it(issuer: Issuer) -> None:
    issuer.answer = answer_with(json.dumps({"keys": [jwk_of("es")]}))
    assert (await verify_token(issued_token("es"))).user_id == "ada"
    issuer.answer = answer_with(json.dumps({"keys": [jwk_of("ed")]}))
    # The key that the issuer no longer has is refused as soon as the set is read.
    results = await asyncio.gather(*(verify_token(issued_token("ed")) for _ in range(20)))
    assert {identity.user_id for identity in results} == {"ada"}
    for token in (issued_token("es"), issued_token("rs")):
        with pytest.raises(InvalidToken):
            await verify_token(token)
    assert len(issuer.requests) == 2


def test_unusable_keys_are_refused_with_one_sentence(issuer: Issuer, tmp_path: Path) -> None:
    issuer.answer = answer_with("{}")
    with pytest.raises(SystemExit) as raised:
        require_usable_keys()
    assert str(raised.value) == (
        "MAHAVISHNU_JWT_JWKS: the JWKS of 127.0.0.1 cannot be read: a JSON object without a list of `keys`"
    )
    with override_settings(MAHAVISHNU_JWT_SECRET=OTHER_SECRET), pytest.raises(ImproperlyConfigured, match="no value"):
        configured_keys()
    with (
        override_settings(MAHAVISHNU_JWT_SECRET="short", MAHAVISHNU_JWT_JWKS=""),
        pytest.raises(ImproperlyConfigured, match="5 bytes, of at least 32"),
    ):
        configured_keys()
