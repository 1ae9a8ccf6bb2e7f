"""The login of the pages as a way in: it counts only for pages of the server and of allowed origins."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.typing import Origin

from tests.harness.client import Client
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer
from tests.harness.tokens import REQUIRES_AUTH, token

ALLOWED = "http://localhost:4000"
ANOTHER_PORT = "http://127.0.0.1:5000"

LOG_IN = """
from importlib import import_module
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import Permission, User
user, _ = User.objects.get_or_create(username=name)
user.is_superuser, user.is_active = is_superuser, True
user.save()
user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
store = import_module(settings.SESSION_ENGINE).SessionStore()
store[SESSION_KEY] = str(user.pk)
store[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
store[HASH_SESSION_KEY] = user.get_session_auth_hash()
store.create()
result = f"{settings.SESSION_COOKIE_NAME}={store.session_key}"
"""
DEACTIVATE = """
from django.contrib.auth.models import User
User.objects.filter(username=name).update(is_active=False)
"""


@pytest.fixture(scope="module")
def pages_server(start_module_server: StartServer) -> MahavishnuServer:
    return start_module_server(
        environment={**REQUIRES_AUTH, "MAHAVISHNU_ALLOWED_ORIGINS": ALLOWED}, auth_timeout_seconds=0.3
    )


def log_in(server: MahavishnuServer, name: str, *codenames: str, is_superuser: bool = False) -> str:
    """Return the cookie of a new session."""
    cookie: str = server.services_driver.execute(
        LOG_IN, name=name, codenames=list(codenames), is_superuser=is_superuser
    )
    return cookie


@asynccontextmanager
async def opened(server: MahavishnuServer, cookie: str, *, origin: str | None, **headers: str) -> AsyncIterator[Client]:
    sent: dict[str, Any] = {"Cookie": cookie, **headers}
    async with connect(
        server.ws_url, origin=None if origin is None else Origin(origin), additional_headers=sent
    ) as connection:
        yield Client(connection)


async def test_login_counts_with_the_origin_of_the_server_or_an_allowed_one(pages_server: MahavishnuServer) -> None:
    cookie = log_in(pages_server, "grace", "view_workflow", "view_pool")
    for origin in (pages_server.http_url, ALLOWED):
        async with opened(pages_server, f"other=1; {cookie}", origin=origin) as client:
            welcome = await client.next()
            assert welcome["data"]["user_id"] == "grace"
            assert welcome["data"]["expires_at"] > welcome["timestamp"]
            assert (await client.request("subscribe", channel="pool:any"))["type"] == "response"
            assert (await client.request("subscribe", channel="worker:any"))["error_code"] == "FORBIDDEN"


@pytest.mark.parametrize("origin", [None, ANOTHER_PORT])
async def test_login_without_such_an_origin_is_not_used(pages_server: MahavishnuServer, origin: str | None) -> None:
    cookie = log_in(pages_server, "root", is_superuser=True)
    async with opened(pages_server, cookie, origin=origin) as client:
        assert (await client.next())["error_code"] == "AUTH_REQUIRED"
        assert await client.wait_closed() == (1008, "AUTH_REQUIRED")


async def test_login_of_a_deactivated_user_is_not_used(pages_server: MahavishnuServer) -> None:
    cookie = log_in(pages_server, "gone", is_superuser=True)
    pages_server.services_driver.execute(DEACTIVATE, name="gone")
    async with opened(pages_server, cookie, origin=pages_server.http_url) as client:
        assert (await client.next())["error_code"] == "AUTH_REQUIRED"


async def test_login_and_token_together_are_refused(pages_server: MahavishnuServer) -> None:
    cookie = log_in(pages_server, "both", is_superuser=True)
    bearer = {"Authorization": f"Bearer {token('admin')}"}
    async with opened(pages_server, cookie, origin=pages_server.http_url, **bearer) as client:
        assert (await client.next())["error_code"] == "AUTH_FAILED"
    # Without a login, the cookie is no credential.
    ended = cookie.split("=")[0] + "=ended"
    async with opened(pages_server, ended, origin=pages_server.http_url, **bearer) as client:
        assert (await client.next())["data"]["user_id"] == "ada"
