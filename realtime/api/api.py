"""The HTTP API: JSON below `/api/v1/`, described by `/api/openapi.json` and, for people, by `/api/docs`."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja import NinjaAPI, Router
from ninja.parser import Parser

from realtime.api import errors, operations, own_permissions, reads, reports, streams, waits
from realtime.api.auth import Bearer
from realtime.api.json_body import decode_body
from realtime.protocol.server_info import SERVER_VERSION

DESCRIPTION = (
    "Reads have the fields of the WebSocket's requests for lists, and the position `seq` of the event log `epoch` at "
    "which they were read. Operations answer with the `seq` of their event: a subscriber that has received it has seen "
    "the change. Errors are problem details (RFC 9457) with a `code` for programs."
)


class JsonParser(Parser):
    """Decodes bodies for django-ninja."""

    def parse_body(self, request: HttpRequest) -> Any:
        return decode_body(request.body)


def _merged(*routers: Router) -> Router:
    """Return one router. The methods of a path must be in one: Django finds the first that has the path."""
    merged = Router()
    for router in routers:
        for path, view in router.path_operations.items():
            known = merged.path_operations.setdefault(path, view)
            if known is not view:
                known.operations.extend(view.operations)
                known.is_async = known.is_async or view.is_async
            for operation in view.operations:
                operation.tags = operation.tags or router.tags
    return merged


api = NinjaAPI(
    title="Mahavishnu",
    version=SERVER_VERSION,
    description=DESCRIPTION,
    docs_url=None,
    openapi_url=None,
    urls_namespace="api",
    auth=Bearer(),
    parser=JsonParser(),
)
errors.add_handlers(api)
# A stream may have the name `result`: its path comes first.
_ROUTERS = (streams.router, reads.router, own_permissions.router, operations.router, waits.router, reports.router)
api.add_router("v1/", _merged(*_ROUTERS))
