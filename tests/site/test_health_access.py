"""Who may read the details of `/health`, and open the start page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import AsyncClient, AsyncRequestFactory
from pytest_django import Settings

from realtime import views
from realtime.auth.revocation import revoke_token_id
from realtime.connection import bearer
from realtime.connection.auth_failures import AuthFailures
from realtime.limits import Limits
from tests.auth.token_signing import OTHER_SECRET, SECRET
from tests.harness.tokens import token

pytestmark = pytest.mark.django_db(transaction=True)

REPORT = {"status": "healthy", "log_seq": 5}
ON_THIS_MACHINE = "127.0.0.1"
ELSEWHERE = "192.0.2.7"


@pytest.fixture(autouse=True)
def report(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Iterator[dict[str, Any]]:
    report: dict[str, Any] = dict(REPORT)

    async def report_health(**_: Any) -> dict[str, Any]:
        return report

    monkeypatch.setattr(views, "report_health", report_health)
    monkeypatch.setattr(bearer, "auth_failures", AuthFailures())
    settings.MAHAVISHNU_REQUIRE_AUTH = True
    settings.MAHAVISHNU_JWT_SECRET = SECRET
    yield report


async def body(address: str, *, authorization: str | None = None, forwarded_for: str | None = None) -> Any:
    headers = {"Authorization": authorization, "X-Forwarded-For": forwarded_for}
    answer = await ask(address, {name: value for name, value in headers.items() if value is not None})
    assert answer.status_code == 200
    return json.loads(answer.content)


async def ask(address: str, headers: dict[str, str]) -> HttpResponse:
    request = AsyncRequestFactory().get("/health", headers=headers)
    request.scope = {**request.scope, "client": [address, 50000]}
    return await views.health(request)


BEARERS = {
    "none": (None, False),
    "metrics": (f"Bearer {token('metrics:read')}", True),
    "admin in lower case": (f"bearer {token('admin')}", True),
    "other permissions": (f"Bearer {token('global:read', 'workflow:read')}", False),
    "expired": (f"Bearer {token('admin', seconds=-600)}", False),
    "another secret": (f"Bearer {token('admin', secret=OTHER_SECRET)}", False),
    "another scheme": ("Basic YTpi", False),
}


@pytest.mark.parametrize(("authorization", "has_details"), BEARERS.values(), ids=BEARERS)
@pytest.mark.parametrize(
    ("address", "forwarded_for", "is_exposed", "is_local"),
    [
        (ON_THIS_MACHINE, None, False, True),
        (ON_THIS_MACHINE, ELSEWHERE, False, False),
        (ON_THIS_MACHINE, None, True, False),
        (ELSEWHERE, None, True, False),
    ],
)
async def test_details_of_health_need_the_permission_or_this_machine(
    settings: Settings,
    authorization: str | None,
    has_details: bool,
    address: str,
    forwarded_for: str | None,
    is_exposed: bool,
    is_local: bool,
) -> None:
    settings.MAHAVISHNU_EXPOSED = is_exposed
    presents_token = authorization is not None and authorization.lower().startswith("bearer")
    expected = REPORT if has_details or (is_local and not presents_token) else {"status": "healthy"}
    assert await body(address, authorization=authorization, forwarded_for=forwarded_for) == expected


async def test_revoked_token_reads_no_details() -> None:
    authorization = f"Bearer {token('metrics:read', jti='lost')}"
    assert await body(ELSEWHERE, authorization=authorization) == REPORT
    await sync_to_async(revoke_token_id)("lost")
    assert await body(ELSEWHERE, authorization=authorization) == {"status": "healthy"}


async def test_address_with_many_refused_tokens_reads_no_details(settings: Settings) -> None:
    settings.MAHAVISHNU_LIMITS = Limits(max_auth_failures_per_minute=2)
    authorization = f"Bearer {token('metrics:read')}"
    for _ in range(2):
        assert await body(ELSEWHERE, authorization=authorization) == REPORT
        assert await body(ELSEWHERE, authorization="Bearer guess") == {"status": "healthy"}
    assert await body(ELSEWHERE, authorization=authorization) == {"status": "healthy"}
    assert await body("192.0.2.8", authorization=authorization) == REPORT


async def test_open_server_reports_all_to_everyone(settings: Settings) -> None:
    settings.MAHAVISHNU_REQUIRE_AUTH = False
    assert await body(ELSEWHERE) == REPORT


async def test_unhealthy_server_answers_503_without_details(report: dict[str, Any]) -> None:
    report["status"] = "unhealthy"
    answer = await ask(ELSEWHERE, {})
    assert (answer.status_code, json.loads(answer.content)) == (503, {"status": "unhealthy"})


async def test_start_page_needs_a_login_if_credentials_are_required(settings: Settings) -> None:
    client = AsyncClient()
    answer = await client.get("/?channel=global")
    assert (answer.status_code, answer["Location"]) == (302, "/login?next=/%3Fchannel%3Dglobal")
    user = await User.objects.acreate(username="ada")
    await client.aforce_login(user)
    assert (await client.get("/")).status_code == 200
    await User.objects.filter(pk=user.pk).aupdate(is_active=False)
    assert (await client.get("/")).status_code == 302
    settings.MAHAVISHNU_REQUIRE_AUTH = False
    assert (await AsyncClient().get("/")).status_code == 200
