"""The doors: every URL and every request, listed from the code, each with what it asks.

A door that is in no row fails here. So does a row without its door.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from realtime.connection.handlers.permissions import PERMISSIONS
from realtime.protocol.requests import REQUESTS

DJANGO = "Django's permission for the model"
STAFF = "a login with `is_staff`"

SHELLS = (
    "",
    "workflows",
    "^workflows/(?P<workflow_id>[A-Za-z0-9._-]{1,128})$",
    "questions",
    "pools",
    "^pools/(?P<pool_id>[A-Za-z0-9._-]{1,128})$",
    "events",
    "start",
    "start/<str:name>",
    "docs",
    "docs/<slug:name>",
)
"""The pages of the dashboard."""

PAGES = {
    "^ws/?$": "public, because it has no data",
    "favicon.ico": "public, because it is a file of this source",
    "health": "public: the status alone; its details need read metrics",
    **dict.fromkeys(
        SHELLS, "public while no credentials are required, because the page itself has no data; else a login"
    ),
    "login": "public, because one logs in there; throttled",
    "logout": "public, because it ends nothing but the own session",
    "admin/": STAFF,
    "admin/login/": "public, because one logs in there; throttled",
    "admin/logout/": "public, because it ends nothing but the own session",
    "admin/password_change/": STAFF,
    "admin/password_change/done/": STAFF,
    "admin/autocomplete/": STAFF,
    "admin/jsi18n/": "public, because it is the text of scripts",
    "admin/r/<path:content_type_id>/<path:object_id>/": STAFF,
    "admin/^(?P<app_label>orchestration|realtime|auth)/$": STAFF,
    "admin/(?P<url>.*)$": STAFF,
    "admin/orchestration/workflow/start/": DJANGO,
    "admin/auth/user/<id>/password/": DJANGO,
}

MODELS = (
    "orchestration/worker",
    "orchestration/pool",
    "orchestration/stage",
    "orchestration/streamcontent",
    "orchestration/wait",
    "orchestration/workflow",
    "realtime/event",
    "realtime/revocation",
    "auth/group",
    "auth/user",
)
OF_MODEL = (
    "",
    "add/",
    "<path:object_id>/",
    "<path:object_id>/history/",
    "<path:object_id>/delete/",
    "<path:object_id>/change/",
)

API = {
    "api/ api-root": "public, because it is empty",
    "api/openapi.json api-openapi": "public, because it describes and has no data",
    "api/docs api-docs": "public, because it describes and has no data",
    "api/v1/workflows list_workflows": "read all workflows",
    "api/v1/workflows/<workflow_id> get_workflow": "read workflow:workflow_id",
    "api/v1/workflows/<workflow_id>/stages list_stages": "read workflow:workflow_id",
    "api/v1/workflows/<workflow_id>/stages/<path:stage_name>/result get_stage_result": "read workflow:workflow_id",
    "api/v1/workflows/<workflow_id>/stages/<path:stage_name>/streams/<stream_name> get_stream": (
        "read workflow:workflow_id"
    ),
    "api/v1/pools list_pools": "read all pools",
    "api/v1/pools/<pool_id> get_pool": "read pool:pool_id",
    "api/v1/pools/<pool_id>/history get_pool_history": "read pool:pool_id",
    "api/v1/workers list_workers": "read pool:pool_id, or read all workers",
    "api/v1/workers/<worker_id> get_worker": "read worker:worker_id",
    "api/v1/waits list_waits": "read workflow:workflow_id, or read all workflows",
    "api/v1/events list_events": "read the channel",
    "api/v1/definitions list_definitions": "read all workflows",
    "api/v1/permissions get_permissions": "a token or a login, and shows what these permit",
    "api/v1/events report_events": "write event:id of each event; write pool:pool_id for what is created",
    "api/v1/workflows start_workflow": "operate definition:name",
    "api/v1/workflows/<workflow_id>/cancel cancel_workflow": "operate workflow:workflow_id",
    "api/v1/workflows/<workflow_id>/retry retry_workflow": "operate workflow:workflow_id",
    "api/v1/workflows/<workflow_id>/waits/<name>/answer answer_wait": "operate workflow:workflow_id",
    "api/v1/workflows/<workflow_id>/signals/<name> send_signal": "operate workflow:workflow_id",
    "api/v1/waits/<token> answer_link": "the link: signed, for one wait, until it is answered or over",
    "api/v1/pools/<pool_id>/drain drain_pool": "operate pool:pool_id",
    "api/v1/pools/<pool_id>/reopen reopen_pool": "operate pool:pool_id",
    "api/v1/workers/<worker_id>/drain drain_worker": "operate worker:worker_id",
}

OF_REQUESTS = {
    "subscribe": "read the channel",
    "unsubscribe": "read the channel",
    "list_events": "read the channel",
    "get_workflow_status": "read workflow:workflow_id",
    "get_workflow": "read workflow:workflow_id",
    "list_stages": "read workflow:workflow_id",
    "get_stage_result": "read workflow:workflow_id",
    "get_pool_status": "read pool:pool_id",
    "get_pool_history": "read pool:pool_id",
    "list_workers": "read pool:pool_id, or read all workers",
    "list_waits": "read workflow:workflow_id, or read all workflows",
    "list_workflows": "read all workflows",
    "list_pools": "read all pools",
    "list_definitions": "read all workflows",
    "get_server_status": "read metrics",
    "auth": "public, because it presents a token",
    "refresh_token": "public, because it presents a token",
}


def urls(patterns: list[URLPattern | URLResolver], prefix: str = "") -> Iterator[str]:
    """Yield the route of each view, as it is written in the code. Those of the API have their names, too."""
    for pattern in patterns:
        route = f"{prefix}{pattern.pattern}"
        if isinstance(pattern, URLResolver):
            yield from urls(pattern.url_patterns, route)
        else:
            yield f"{route} {pattern.name}" if route.startswith("api/") else route


DOORS = sorted(urls(get_resolver().url_patterns))

ROWS = {
    **PAGES,
    **{f"admin/{model}/{page}": DJANGO for model in MODELS for page in OF_MODEL},
    **API,
}


def test_every_url_is_in_the_table() -> None:
    assert sorted(ROWS) == DOORS


def test_every_request_is_in_the_table() -> None:
    assert sorted(REQUESTS) == sorted(OF_REQUESTS)
    asks = {request.event for request, row in PERMISSIONS.items() if row is not PERMISSIONS[REQUESTS["auth"]]}
    assert asks >= {event for event, row in OF_REQUESTS.items() if not row.startswith("public")}


@pytest.mark.django_db
def test_pages_of_the_admin_lead_to_the_login() -> None:
    client = Client()
    for route, row in ROWS.items():
        if row not in (DJANGO, STAFF):
            continue
        path = "/" + route.replace("^(?P<app_label>orchestration|realtime|auth)/$", "realtime/")
        for part in ("<path:content_type_id>", "<path:object_id>", "<id>", "(?P<url>.*)$"):
            path = path.replace(part, "1")
        answer = client.get(path)
        if answer.status_code == 301:  # A path without its final slash.
            answer = client.get(answer["Location"])
        # `<path:object_id>/` redirects to its page, `change/`.
        while answer.status_code == 302 and not answer["Location"].startswith("/admin/login/"):
            answer = client.get(answer["Location"])
        assert (answer.status_code, answer.headers.get("Location", "")[:13]) == (302, "/admin/login/"), path
