"""The pages of the API: its OpenAPI document, and the same for people. Both are public, like this source."""

from __future__ import annotations

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from realtime.api.api import api
from realtime.api.openapi import openapi_document, shown_operations, with_code
from realtime.protocol.payload import encode_data
from realtime.protocol.problems import PROBLEM_TYPES


def _root() -> str:
    return reverse("api:api-root")


@csrf_exempt
@require_safe
async def openapi_json(request: HttpRequest) -> HttpResponse:
    """Return the OpenAPI document."""
    return HttpResponse(encode_data(openapi_document(api, _root())), content_type="application/json")


@csrf_exempt
@require_safe
async def docs(request: HttpRequest) -> HttpResponse:
    """Show the document to people, without scripts."""
    document = openapi_document(api, _root())
    base_url = request.build_absolute_uri("/").removesuffix("/")
    problems = [(code, kind.status, kind.title) for code, kind in PROBLEM_TYPES.items()]
    description = with_code(document["info"]["description"])
    context = {"description": description, "groups": shown_operations(document, base_url), "problems": problems}
    return await sync_to_async(render, thread_sensitive=False)(request, "realtime/api_docs.html", context)
