"""The views of the documents and of the HTTP API. They work without scripts."""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from dashboard.documents import list_documents, read_document
from dashboard.views import login_first, render_page
from realtime.api.api import api
from realtime.api.openapi import openapi_document, shown_operations, with_code
from realtime.protocol.problems import PROBLEM_TYPES


def _url(name: str) -> str:
    return reverse("doc", kwargs={"name": name})


@require_safe
async def show_documents(request: HttpRequest) -> HttpResponse:
    """List the documents, or say where they are if they are not installed."""
    if (login := await login_first(request)) is not None:
        return login
    documents = await sync_to_async(list_documents, thread_sensitive=False)(_url)
    context = {"title": "Docs", "section": "docs", "documents": documents}
    return await render_page(request, "dashboard/documents.html", context)


@require_safe
async def show_document(request: HttpRequest, *, name: str) -> HttpResponse:
    """Show one document.

    Raises:
        Http404: if there is none with this name.
    """
    if (login := await login_first(request)) is not None:
        return login
    document = await sync_to_async(read_document, thread_sensitive=False)(name, _url)
    if document is None:
        raise Http404(f"There is no document {name!r}")
    documents = await sync_to_async(list_documents, thread_sensitive=False)(_url)
    context: dict[str, Any] = {"title": document.title, "section": "docs", "document": document, "name": name}
    return await render_page(request, "dashboard/document.html", context | {"documents": documents})


@csrf_exempt
@require_safe
async def show_api(request: HttpRequest) -> HttpResponse:
    """Show the OpenAPI document to people. It is public, like this source."""
    document = openapi_document(api, reverse("api:api-root"))
    base_url = request.build_absolute_uri("/").removesuffix("/")
    context = {
        "title": "HTTP API",
        "section": "docs",
        "description": with_code(document["info"]["description"]),
        "groups": shown_operations(document, base_url),
        "problems": [(code, kind.status, kind.title) for code, kind in PROBLEM_TYPES.items()],
    }
    return await render_page(request, "dashboard/api.html", context)
