"""Fixtures for the tests of the admin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from django.test import Client


@pytest.fixture
def admin() -> Client:
    """Return a client that is logged in as a superuser."""
    # Imported here, because models can be only once Django is set up.
    from django.contrib.auth.models import User
    from django.test import Client

    client = Client(headers={"host": "localhost"})
    client.force_login(User.objects.create_superuser("root"))
    return client
