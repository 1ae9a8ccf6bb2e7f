"""Revoked tokens: which, for how long, and how they are revoked."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction
from django.test import Client
from pytest_django import Settings

from realtime.auth import revocation
from realtime.auth.identity import EVERYONE, ON_THIS_MACHINE, Identity
from realtime.auth.revocation import (
    InvalidRevocation,
    has_revocations,
    prune_revocations,
    revoke_token_id,
    revoke_user,
    revoked,
    revoked_in_table,
)
from realtime.models import Revocation

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True)]

NOW = datetime.now(UTC)


@pytest.fixture(autouse=True)
def empty_table() -> Iterator[None]:
    revocation._table.read()
    yield
    revocation._table.tokens = revocation.RevokedTokens()


def identity(
    user_id: str = "ada", *, issued_at: datetime | None = NOW, token_id: str | None = None, session: str | None = None
) -> Identity:
    seconds = None if issued_at is None else issued_at.timestamp()
    return Identity(user_id=user_id, permissions=(), issued_at=seconds, token_id=token_id, session_key=session)


IDENTITIES = {
    "older": (identity(issued_at=NOW - timedelta(seconds=60)), True),
    "newer": (identity(issued_at=NOW), False),
    "without a time": (identity(issued_at=None), True),
    "of a session": (identity(issued_at=None, session="key"), False),
    "of another user": (identity("bob", issued_at=None), False),
    "in other case": (identity("Ada", issued_at=None), False),
    "by its id": (identity("bob", token_id="lost"), True),
    "by another id": (identity("bob", token_id="kept"), False),
    "no credentials": (EVERYONE, False),
    "this machine": (ON_THIS_MACHINE, False),
}


@pytest.mark.parametrize(("of", "expected"), IDENTITIES.values(), ids=IDENTITIES)
def test_revocation_is_of_older_tokens_of_the_user_and_of_the_token(of: Identity, expected: bool) -> None:
    revoke_user("ada", NOW - timedelta(seconds=90))
    revoke_user("ada", NOW - timedelta(seconds=30))
    revoke_token_id("lost")
    assert not revoked(of), "the table was not read again"
    assert revoked_in_table(of) is expected
    revocation._table.read()
    assert has_revocations()
    assert revoked(of) is expected


def test_table_is_read_again_only_if_it_has_changed(django_assert_num_queries: pytest.FixtureRequest) -> None:
    revoke_token_id("one")
    with django_assert_num_queries(3):  # type: ignore[operator]
        revocation._table.read()
        revocation._table.read()
    Revocation.objects.all().delete()
    revocation._table.read()
    assert not has_revocations()


def test_rows_are_deleted_when_no_token_is_that_old(settings: Settings) -> None:
    settings.MAHAVISHNU_MAX_TOKEN_SECONDS = 600
    kept = revoke_user("ada", datetime.now(UTC) - timedelta(seconds=600))
    gone = revoke_token_id("lost")
    assert 600 < (gone.expires_at - datetime.now(UTC)).total_seconds() <= 660
    Revocation.objects.filter(pk=gone.pk).update(expires_at=datetime.now(UTC))
    assert prune_revocations() == 1
    assert Revocation.objects.get().pk == kept.pk


def test_revocation_that_has_no_effect_is_refused(settings: Settings) -> None:
    settings.MAHAVISHNU_MAX_TOKEN_SECONDS = 600
    for user, before in (
        ("", None),
        ("x" * 129, None),
        ("a\nb", None),
        ("ada", datetime.now(UTC) + timedelta(seconds=90)),
        ("ada", datetime.now(UTC) - timedelta(seconds=700)),
    ):
        with pytest.raises(InvalidRevocation, match="expected"):
            revoke_user(user, before)
    for token_id in ("", "x" * 129, "a\x00"):
        with pytest.raises(InvalidRevocation, match="expected"):
            revoke_token_id(token_id)
    for user, token_id in (("", ""), ("ada", "lost")):
        with pytest.raises(IntegrityError), transaction.atomic():
            Revocation.objects.create(user_id=user, token_id=token_id, issued_before=NOW, expires_at=NOW)
    assert not Revocation.objects.exists()


def run(*arguments: str) -> str:
    output = io.StringIO()
    call_command("revoke_token", *arguments, stdout=output)
    return output.getvalue()


def test_command_revokes_a_user_or_a_token() -> None:
    assert run("--user", "ada").startswith("Revoked the tokens of user 'ada' issued before ")
    before = (NOW - timedelta(hours=1)).replace(microsecond=0)
    run("--user", "ada", "--issued-before", before.isoformat())
    assert run("--token-id", "lost") == "Revoked the token 'lost'\n"
    rows = Revocation.objects.order_by("pk").values_list("user_id", "token_id")
    assert list(rows) == [("ada", ""), ("ada", ""), ("", "lost")]
    assert Revocation.objects.filter(issued_before=before).count() == 1


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--user", "ada", "--token-id", "lost"),
        ("--token-id", "lost", "--issued-before", "2026-01-01T00:00:00Z"),
        ("--user", "ada", "--issued-before", "yesterday"),
        ("--user", "ada", "--issued-before", "2026-13-01T00:00:00Z"),
        ("--user", "ada", "--issued-before", "2999-01-01T00:00:00Z"),
        ("--user", ""),
    ],
)
def test_command_says_what_it_expects(arguments: tuple[str, ...]) -> None:
    with pytest.raises(CommandError):
        run(*arguments)
    assert not Revocation.objects.exists()


def test_admin_adds_revocations_and_changes_none(admin_client: Client) -> None:
    page = "/admin/realtime/revocation/add/"
    form = {"user_id": "", "token_id": "", "issued_before_0": "", "issued_before_1": ""}
    assert admin_client.get(page).status_code == 200
    for invalid in (form, {**form, "user_id": "ada", "token_id": "lost"}, {**form, "token_id": "a\x00"}):
        assert admin_client.post(page, invalid).status_code == 200
    assert not Revocation.objects.exists()
    for valid in ({**form, "user_id": "ada"}, {**form, "token_id": "lost"}):
        assert admin_client.post(page, valid).status_code == 302
    row = Revocation.objects.get(user_id="ada")
    assert abs((datetime.now(UTC) - row.issued_before).total_seconds()) < 60
    assert row.expires_at > row.issued_before
    of_row = f"/admin/realtime/revocation/{row.pk}"
    assert admin_client.post(f"{of_row}/change/", {**form, "user_id": "bob"}).status_code == 403
    assert admin_client.post(f"{of_row}/delete/", {"post": "yes"}).status_code == 403
    assert b"tokens of ada" in admin_client.get("/admin/realtime/revocation/").content
    assert Revocation.objects.count() == 2
