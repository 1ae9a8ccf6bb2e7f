"""Pages that a project adds: their URLs may have a query that looks like a token."""

from __future__ import annotations

from typing import Any

import pytest
from pytest_django import Settings

from mahavishnu_site.project_pages import is_project_page
from realtime.connection.refusals import refuse_tokens_in_urls
from tests.site import project_urls


@pytest.mark.parametrize("prefix", ["", "/mahavishnu"])
def test_pages_of_a_project_are_not_those_of_the_site(settings: Settings, prefix: str) -> None:
    settings.MAHAVISHNU_PATH_PREFIX = prefix
    paths = [f"{prefix}{path}" for path in ("/confirm", "/", "/health", "/admin/", "/api/docs", "/nothing")]
    assert not any(map(is_project_page, paths))
    settings.ROOT_URLCONF = project_urls.__name__
    assert [is_project_page(path) for path in paths] == [True, True, False, False, False, False]


async def test_token_in_the_url_of_a_page_of_a_project_reaches_it(settings: Settings) -> None:
    settings.ROOT_URLCONF = project_urls.__name__
    reached: list[str] = []
    statuses: list[int] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope["path"])

    async def send(message: Any) -> None:
        statuses.extend([message["status"]] if "status" in message else [])

    refusing = refuse_tokens_in_urls(application, api_path="/api/", is_exempt=is_project_page)
    for path in ("/confirm", "/health", "/api/v1/pools"):
        scope = {"type": "http", "method": "GET", "path": path, "query_string": b"token=abc", "client": None}
        await refusing(scope, None, send)
    assert (reached, statuses) == (["/confirm"], [400, 400])
