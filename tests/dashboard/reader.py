"""A user with some permissions, whose login a page has, on a server that requires one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from playwright.async_api import Page

from tests.harness.server import MahavishnuServer

SECRETS: Final = {
    "MAHAVISHNU_REQUIRE_AUTH": "1",
    "MAHAVISHNU_JWT_SECRET": "a-long-secret-of-a-test-with-0123456789-and-more",
}
_CREATE = """
from django.contrib.auth.models import Permission, User
user = User.objects.create_user("reader", is_staff=True)
user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
"""
_SESSION = """
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
user = User.objects.get(username="reader")
session = SessionStore()
session["_auth_user_id"], session["_auth_user_backend"] = str(user.pk), "django.contrib.auth.backends.ModelBackend"
session["_auth_user_hash"] = user.get_session_auth_hash()
session.create()
result = [settings.SESSION_COOKIE_NAME, session.session_key]
"""


async def log_in_as_reader(server: MahavishnuServer, page: Page, permissions: Sequence[str]) -> None:
    """Create the user `reader`, and give the page a session of that user."""
    server.services_driver.execute(_CREATE, permissions=list(permissions))
    name, value = server.services_driver.execute(_SESSION)
    await page.context.add_cookies([{"name": name, "value": value, "url": server.http_url}])
