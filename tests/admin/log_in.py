"""A login of the browser without the form, whose password takes time to hash."""

from __future__ import annotations

from playwright.async_api import Page

from tests.harness.server import MahavishnuServer

_CREATE_SESSION = """
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore

user, _ = User.objects.get_or_create(username="browser", is_staff=True, is_superuser=True)
session = SessionStore()
session["_auth_user_id"], session["_auth_user_backend"] = str(user.pk), "django.contrib.auth.backends.ModelBackend"
session["_auth_user_hash"] = user.get_session_auth_hash()
session.create()
result = [settings.SESSION_COOKIE_NAME, session.session_key]
"""


async def log_in_as_superuser(server: MahavishnuServer, page: Page) -> None:
    """Give the page the session of a superuser of the server."""
    name, value = server.services_driver.execute(_CREATE_SESSION)
    await page.context.add_cookies([{"name": name, "value": value, "url": server.http_url}])
