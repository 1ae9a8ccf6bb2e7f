"""The pages. The scripts of the shell know the same paths (`static/dashboard/routes.js`), and a test compares both."""

from __future__ import annotations

from django.contrib.auth.views import LogoutView
from django.urls import URLPattern, path, re_path

from dashboard.document_views import show_api, show_document, show_documents
from dashboard.login import LoginPage
from dashboard.views import show_page
from orchestration.identifiers import MAX_IDENTIFIER_LENGTH

_ID = rf"[A-Za-z0-9._-]{{1,{MAX_IDENTIFIER_LENGTH}}}"

urlpatterns: list[URLPattern] = [
    path("", show_page, {"title": "Overview"}, name="overview"),
    path("workflows", show_page, {"title": "Workflows"}, name="workflows"),
    re_path(rf"^workflows/(?P<workflow_id>{_ID})$", show_page, {"title": "Workflow"}, name="workflow"),
    path("pools", show_page, {"title": "Pools"}, name="pools"),
    re_path(rf"^pools/(?P<pool_id>{_ID})$", show_page, {"title": "Pool"}, name="pool"),
    path("events", show_page, {"title": "Events"}, name="events"),
    path("start", show_page, {"title": "Start a workflow"}, name="start"),
    path("docs", show_documents, name="docs"),
    path("docs/<slug:name>", show_document, name="doc"),
    path("api/docs", show_api, name="api-docs"),
    path("start/<str:name>", show_page, {"title": "Start a workflow"}, name="start-workflow"),
    path("login", LoginPage.as_view(), name="login"),
    path("logout", LogoutView.as_view(next_page="login"), name="logout"),
]
