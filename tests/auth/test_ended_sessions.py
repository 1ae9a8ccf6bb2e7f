"""Logins that end while a connection is open."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

import pytest
from django.conf import settings as current
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client
from pytest_django import Settings

from realtime.auth.ended_sessions import SessionCheck
from realtime.auth.identity import ON_THIS_MACHINE, Identity
from realtime.auth.sessions import identity_of_session

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True)]


def log_in(name: str, *, is_superuser: bool = False) -> Identity:
    # No real hash, which would take long to make.
    user = User.objects.create(username=name, is_superuser=is_superuser, password="first")
    client = Client()
    client.force_login(user)
    found = identity_of_session(client.cookies[current.SESSION_COOKIE_NAME].value)
    assert found is not None
    return found


def store(identity: Identity) -> Any:
    return import_module(current.SESSION_ENGINE).SessionStore(identity.session_key)


ENDS: dict[str, Callable[[Identity], object]] = {
    "logout": lambda identity: store(identity).flush(),
    "deactivated": lambda identity: User.objects.filter(username=identity.user_id).update(is_active=False),
    "deleted": lambda identity: User.objects.filter(username=identity.user_id).delete(),
    "new password": lambda identity: User.objects.filter(username=identity.user_id).update(password="second"),
    "renamed": lambda identity: User.objects.filter(username=identity.user_id).update(username="other"),
    "no superuser": lambda identity: User.objects.filter(username=identity.user_id).update(is_superuser=False),
    "expired": lambda identity: Session.objects.filter(pk=identity.session_key).update(expire_date=datetime.now(UTC)),
    "forged": lambda identity: Session.objects.filter(pk=identity.session_key).update(session_data="forged"),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_session_ends_with_its_login(end: Callable[[Identity], object]) -> None:
    check = SessionCheck()
    ada, bob = log_in("ada", is_superuser=True), log_in("bob")
    assert check.ended([ada, bob, ON_THIS_MACHINE]) == set()
    end(ada)
    assert check.ended([ada, bob]) == {ada.session_key}


def test_check_takes_two_queries_and_none_without_sessions(django_assert_num_queries: Any) -> None:
    check = SessionCheck()
    identities = [log_in(f"user-{number}") for number in range(5)]
    with django_assert_num_queries(2):
        assert check.ended([*identities, ON_THIS_MACHINE]) == set()
    with django_assert_num_queries(0):
        assert check.ended([ON_THIS_MACHINE]) == set()


def test_sessions_that_are_not_in_the_database_are_not_looked_at(settings: Settings) -> None:
    ada = log_in("ada")
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
    assert SessionCheck().ended([ada]) == set()
