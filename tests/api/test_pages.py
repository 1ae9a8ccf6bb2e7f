"""The OpenAPI document and its page for people, with and without a path prefix."""

from __future__ import annotations

import re
import urllib.request

from realtime.api.api import api
from realtime.api.openapi import openapi_document
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer


def read(url: str) -> tuple[str, str]:
    """Return the text of a page and its policy."""
    with urllib.request.urlopen(url, timeout=20) as answer:
        return answer.read().decode(), answer.headers["Content-Security-Policy"]


def test_page_shows_every_operation_without_scripts_of_anyone(server: MahavishnuServer) -> None:
    text, policy = read(f"{server.http_url}/api/docs")
    assert "<script" not in text
    assert " style=" not in text
    assert re.findall(r'(?:href|src)="(?:https?:)?//', text) == []
    assert "default-src 'none'" in policy
    for path, item in openapi_document(api, "/api/")["paths"].items():
        for method, operation in item.items():
            assert f'id="{operation["operationId"]}"' in text
            assert f"{server.http_url}{path.partition('{')[0]}" in text
            assert method.upper() in text


STREAM_ANSWERS = {
    "200": {"text/plain; charset=utf-8", "application/octet-stream", "text/event-stream"},
    "204": set(),
}
"""The media types of a stream of chunks, by status."""


def test_document_has_descriptions_schemas_problems_and_security() -> None:
    document = openapi_document(api, "/api/")
    assert document["openapi"].startswith("3.1")
    assert document["components"]["securitySchemes"]["Bearer"] == {"type": "http", "scheme": "bearer"}
    operation_ids = set()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            operation_ids.add(operation["operationId"])
            assert operation["summary"]
            assert operation["description"], path
            is_link = operation["operationId"] == "answer_link"
            assert operation["security"] == ([] if is_link else [{"Bearer": []}, {"Login": []}, {}])
            assert {"401", "403", "422", "429", "503"} <= set(operation["responses"])
            successes = {status: each for status, each in operation["responses"].items() if status.startswith("2")}
            if operation["operationId"] == "get_stream":
                assert {status: set(each.get("content", ())) for status, each in successes.items()} == STREAM_ANSWERS
            else:
                (success,) = successes.values()
                assert "schema" in success["content"]["application/json"], (method, path)
    assert len(operation_ids) == sum(len(item) for item in document["paths"].values())


def test_api_is_published_under_the_path_prefix(start_server: StartServer) -> None:
    server = start_server(environment={"MAHAVISHNU_PATH_PREFIX": "/mv"})
    text, _ = read(f"{server.http_url}/mv/api/docs")
    assert f"{server.http_url}/mv/api/v1/workflows" in text
    assert re.search(r'href="/mv/static/dashboard/docs\.[0-9a-f]{12}\.css"', text)
    document, _ = read(f"{server.http_url}/mv/api/openapi.json")
    assert '"/mv/api/v1/workflows"' in document
    workflows, _ = read(f"{server.http_url}/mv/api/v1/workflows")
    assert '"workflows":[]' in workflows
