"""`manage.py create_token`."""

from __future__ import annotations

import io
import time

import pytest
from asgiref.sync import async_to_sync
from django.core.management import CommandError, call_command
from django.test import override_settings

from realtime.auth.identity import Identity
from realtime.auth.tokens import verify_token
from tests.auth.token_signing import AUDIENCE, ISSUER, PREVIOUS_SECRET, SECRET

pytestmark = pytest.mark.django_db


def create(*arguments: str) -> str:
    output = io.StringIO()
    call_command("create_token", *arguments, stdout=output)
    return output.getvalue()


def read(output: str) -> Identity:
    token, end = output[:-1], output[-1]
    assert end == "\n"
    return async_to_sync(verify_token)(token)


@override_settings(MAHAVISHNU_JWT_SECRET=SECRET, MAHAVISHNU_JWT_SECRET_PREVIOUS=PREVIOUS_SECRET)
def test_create_token_prints_a_token_that_is_accepted() -> None:
    before = int(time.time())
    identity = read(
        create(
            *("--user", "ada", "--permission", "workflow:read", "--permission", "operate:nightly_*"),
            *("--expires-in", "60", "--token-id", "token-1"),
        )
    )
    assert (identity.user_id, identity.permissions) == ("ada", ("workflow:read", "operate:nightly_*"))
    assert identity.token_id == "token-1"
    assert identity.issued_at is not None
    assert before <= identity.issued_at <= time.time()
    assert identity.expires_at == identity.issued_at + 60
    # The first secret signs, so that the previous one can be removed.
    with override_settings(MAHAVISHNU_JWT_SECRET_PREVIOUS=""):
        assert read(create("--user", "ada")).token_id != read(create("--user", "ada")).token_id


@override_settings(MAHAVISHNU_JWT_SECRET=SECRET, MAHAVISHNU_JWT_AUDIENCE=AUDIENCE, MAHAVISHNU_JWT_ISSUER=ISSUER)
def test_created_token_has_the_audience_and_the_issuer_of_the_settings() -> None:
    identity = read(create("--user", "ada"))
    assert identity.issued_at is not None
    assert identity.expires_at == identity.issued_at + 3600


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--user", "ada", "--permission", "workflows:read"), "'workflows:read' grants nothing"),
        (("--user", ""), "Expected `str` of length >= 1"),
        (("--user", "a\nb"), "is not printable"),
        (("--user", "ada", "--token-id", ""), "Expected `str` of length >= 1"),
        (("--user", "ada", "--expires-in", "86401"), "expected a whole number from 1 to 86400"),
        (("--user", "ada", *["--permission", "pool:read:" + "x" * 190] * 60), "longer than 8192 bytes"),
    ],
)
@override_settings(MAHAVISHNU_JWT_SECRET=SECRET)
def test_create_token_refuses_what_no_server_accepts(arguments: tuple[str, ...], error: str) -> None:
    with pytest.raises(CommandError, match=error) as raised:
        create(*arguments)
    assert SECRET not in str(raised.value)


def test_create_token_needs_the_secret() -> None:
    with pytest.raises(CommandError, match="MAHAVISHNU_JWT_SECRET is not set"):
        create("--user", "ada")
    with (
        override_settings(MAHAVISHNU_JWT_JWKS="/etc/jwks.json"),
        pytest.raises(CommandError, match="only your issuer can sign tokens"),
    ):
        create("--user", "ada")
