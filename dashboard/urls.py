"""The pages. The scripts of the shell know the same paths (`static/dashboard/routes.js`), and a test compares both.

`module` is the name of the page's module in `static/dashboard/pages`.
"""

from __future__ import annotations

from django.contrib.auth.views import LogoutView
from django.urls import URLPattern, path, re_path

from dashboard.document_views import show_api, show_document, show_documents
from dashboard.login import LoginPage
from dashboard.views import show_page
from orchestration.identifiers import MAX_IDENTIFIER_LENGTH

_ID = rf"[A-Za-z0-9._-]{{1,{MAX_IDENTIFIER_LENGTH}}}"


def _shell(title: str, module: str) -> dict[str, str]:
    return {"title": title, "module": module}


urlpatterns: list[URLPattern] = [
    path("", show_page, _shell("Overview", "overview"), name="overview"),
    path("workflows", show_page, _shell("Workflows", "workflows"), name="workflows"),
    re_path(rf"^workflows/(?P<workflow_id>{_ID})$", show_page, _shell("Workflow", "workflow"), name="workflow"),
    path("questions", show_page, _shell("Questions", "questions"), name="questions"),
    path("pools", show_page, _shell("Pools", "pools"), name="pools"),
    re_path(rf"^pools/(?P<pool_id>{_ID})$", show_page, _shell("Pool", "pool"), name="pool"),
    path("events", show_page, _shell("Events", "events"), name="events"),
    path("start", show_page, _shell("Start a workflow", "start"), name="start"),
    path("docs", show_documents, name="docs"),
    path("docs/<slug:name>", show_document, name="doc"),
    path("api/docs", show_api, name="api-docs"),
    path("start/<str:name>", show_page, _shell("Start a workflow", "start"), name="start-workflow"),
    path("login", LoginPage.as_view(), name="login"),
    path("logout", LogoutView.as_view(next_page="login"), name="logout"),
]
