"""The OpenAPI document of the API, and the page that shows it to people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final

from django.conf import settings
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from ninja import NinjaAPI
from pydantic import TypeAdapter

from realtime.api.idempotency import KEY_PATTERN
from realtime.api.schemas import ProblemBody
from realtime.protocol.payload import decode_object, encode_data
from realtime.protocol.problems import CONTENT_TYPE, PROBLEM_TYPES

_SCHEMA: Final = "#/components/schemas/{model}"
_PROBLEM: Final = {"$ref": _SCHEMA.format(model="ProblemBody")}
_ALWAYS: Final = (400, 401, 403, 422, 429, 500, 503)
_CHANGING: Final = (409, 413, 415)
_EXAMPLE_IDS: Final = {"workflow_id": "nightly-1", "pool_id": "default", "worker_id": "host-1"}
_EXAMPLE_QUERIES: Final = {"list_workflows": "status=failed&limit=20", "list_events": "channel=global&limit=20"}
_IDEMPOTENCY_KEY: Final = {
    "in": "header",
    "name": "Idempotency-Key",
    "required": False,
    "description": "The same key with the same body is answered again, and changes nothing.",
    "schema": {"type": "string", "pattern": f"^{KEY_PATTERN}$", "maxLength": 64},
}


def openapi_document(api: NinjaAPI, root: str) -> dict[str, Any]:
    """Return the document for the API below a path such as `/api/`. It must not be changed."""
    return _document(api, root)


@lru_cache(maxsize=4)
def _document(api: NinjaAPI, root: str) -> dict[str, Any]:
    document: dict[str, Any] = decode_object(encode_data(dict(api.get_openapi_schema(path_prefix=root))))
    schema = TypeAdapter(ProblemBody).json_schema(ref_template=_SCHEMA)
    document["components"]["schemas"] |= {**schema.pop("$defs", {}), "ProblemBody": schema}
    document["components"]["securitySchemes"]["Login"] = {
        "type": "apiKey",
        "in": "cookie",
        "name": settings.SESSION_COOKIE_NAME,
        "description": "The login of a person, for the server's own pages only. A change needs the header "
        "`X-CSRFToken` too.",
    }
    for path, item in document["paths"].items():
        for method, operation in item.items():
            _complete(path, method, operation)
    return document


def _complete(path: str, method: str, operation: dict[str, Any]) -> None:
    """Add to an operation what all of them have: problems, the key, and that a token may be unnecessary."""
    statuses = {*_ALWAYS, *(_CHANGING if method == "post" else ())}
    if "{" in path or "requestBody" in operation:
        statuses.add(404)
    for status in sorted(statuses):
        codes = ", ".join(code for code, kind in PROBLEM_TYPES.items() if kind.status == status)
        description = f"{HTTPStatus(status).phrase}: {codes}"
        operation["responses"][str(status)] = {
            "description": description,
            "content": {CONTENT_TYPE: {"schema": _PROBLEM}},
        }
    # A server without MAHAVISHNU_REQUIRE_AUTH needs neither. A link contains its permission.
    security = operation.get("security", [])
    operation["security"] = [*security, {"Login": []}, {}] if security else []
    parameters = operation.setdefault("parameters", [])
    if method == "post":
        parameters.append(_IDEMPOTENCY_KEY)
    for parameter in parameters:
        # The text of a URL cannot be null.
        kinds = [kind for kind in parameter["schema"].pop("anyOf", []) if kind != {"type": "null"}]
        if len(kinds) == 1:
            parameter["schema"] |= kinds[0]
        elif kinds:
            parameter["schema"]["anyOf"] = kinds
        if parameter["name"] in _EXAMPLE_IDS:
            parameter["example"] = _EXAMPLE_IDS[parameter["name"]]


def with_code(text: str) -> SafeString:
    """Return the HTML of a text with code spans in backquotes."""
    parts = enumerate(map(escape, text.split("`")))
    return mark_safe("".join(f"<code>{part}</code>" if number % 2 else part for number, part in parts))


@dataclass(frozen=True, slots=True)
class ShownOperation:
    """An operation as the page shows it.

    Attributes:
        permission: The permission that it needs, in code spans.
        parameters: Each with its name, its place, what it accepts and what it means.
        fields: The fields of the body, in the same form.
        curl: A command line that calls it.
    """

    operation_id: str
    method: str
    path: str
    summary: str
    description: str
    permission: str
    parameters: list[dict[str, str]]
    fields: list[dict[str, str]]
    curl: str
    responses: list[tuple[str, str]]


def shown_operations(document: Mapping[str, Any], base_url: str) -> dict[str, list[ShownOperation]]:
    """Return the operations of the document by their tags."""
    shown: dict[str, list[ShownOperation]] = {}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            tag = operation.get("tags", [""])[0]
            shown.setdefault(tag, []).append(_shown(document, base_url, path, method, operation))
    return shown


def _shown(
    document: Mapping[str, Any], base_url: str, path: str, method: str, operation: Mapping[str, Any]
) -> ShownOperation:
    description, _, permission = operation.get("description", "").partition("Permission: ")
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    schema = _resolved(document, body)
    return ShownOperation(
        operation_id=operation["operationId"],
        method=method.upper(),
        path=path,
        summary=operation["summary"],
        description=with_code(description.strip()),
        permission=with_code(permission.strip().removesuffix(".")),
        parameters=[
            _shown_parameter(each["name"], each["in"], each["schema"], each.get("description", ""))
            for each in operation["parameters"]
        ],
        fields=[
            _shown_parameter(name, "body", field, field.get("description", ""))
            for name, field in schema.get("properties", {}).items()
        ],
        curl=curl_line(base_url, path, method, operation, schema),
        responses=[(status, response["description"]) for status, response in operation["responses"].items()],
    )


def _shown_parameter(name: str, place: str, schema: Mapping[str, Any], text: str) -> dict[str, str]:
    return {"name": name, "in": place, "type": _type(schema), "text": with_code(text)}


def curl_line(base_url: str, path: str, method: str, operation: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """Return a command line that calls an operation. `schema` is that of its body; empty for none."""
    url = base_url + path
    for name, example in _EXAMPLE_IDS.items():
        url = url.replace(f"{{{name}}}", example)
    query = _EXAMPLE_QUERIES.get(operation["operationId"])
    parts = ["curl", "-H", '"Authorization: Bearer $TOKEN"']
    if method == "post":
        parts += ["-X", "POST"]
    if schema:
        text = encode_data(schema.get("example", {})).replace("'", r"'\''")
        parts += ["-H", "'Content-Type: application/json'", "-d", f"'{text}'"]
    return " ".join([*parts, f"'{url}?{query}'" if query else url])


def _resolved(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schema of an object that another schema refers to, or its first alternative."""
    for alternative in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        return _resolved(document, alternative)
    reference = schema.get("$ref")
    if reference is None:
        return schema
    found: Mapping[str, Any] = document["components"]["schemas"][reference.rpartition("/")[2]]
    return found


def _type(schema: Mapping[str, Any]) -> str:
    return ", ".join(_type_parts(schema))


def _type_parts(schema: Mapping[str, Any]) -> Iterator[str]:
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    if kinds:
        yield from _type_parts(kinds[0])
    if "enum" in schema:
        yield " | ".join(schema["enum"])
    elif "type" in schema:
        yield schema.get("format") or schema["type"]
    if schema.get("type") == "array":
        yield f"of {_type(schema['items'])}"
    if "minimum" in schema or "maximum" in schema:
        yield f"{schema.get('minimum', '')} to {schema.get('maximum', '')}"
    if "maxLength" in schema:
        yield f"at most {schema['maxLength']} characters"
    if schema.get("default") not in (None, "", [], {}):
        yield f"default {encode_data(schema['default'])}"
