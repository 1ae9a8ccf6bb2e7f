"""The OpenAPI document of the API. It is public, like this source."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from realtime.api.api import api
from realtime.api.openapi import openapi_document
from realtime.protocol.payload import encode_data


@csrf_exempt
@require_safe
async def openapi_json(request: HttpRequest) -> HttpResponse:
    """Return the OpenAPI document."""
    return HttpResponse(encode_data(openapi_document(api, reverse("api:api-root"))), content_type="application/json")
