"""Every path of the API with no token, a bad one, too small a one, a sufficient one, and for what does not exist."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from realtime.api.api import api
from realtime.api.openapi import openapi_document
from tests.api.http_calls import call
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer
from tests.harness.tokens import REQUIRES_AUTH, token
from tests.harness.waiting import wait_until

Unique = Callable[[str], str]


@dataclass(frozen=True)
class Row:
    """A path of the API.

    Attributes:
        path: With `{workflow}`, `{pool}`, `{worker}` and `{stage}` for what exists, `{wait}` and `{stream}` for a name.
        grant: The least permission.
        forbidden: What a refusal names.
        missing: The same path for what does not exist; None if the path needs nothing.
        body: What is sent.
        allowed: The statuses of the answer with the permission.
    """

    method: str
    path: str
    grant: str
    forbidden: str
    missing: str | None = None
    body: object = None
    allowed: tuple[int, ...] = (200,)


ROWS = (
    Row("GET", "workflows", "workflow:read", "read all workflows"),
    Row("GET", "workflows/{workflow}", "workflow:read:{workflow}", "read workflow:{workflow}", "workflows/no"),
    Row(
        "GET",
        "workflows/{workflow}/stages",
        "workflow:read:{workflow}",
        "read workflow:{workflow}",
        "workflows/no/stages",
    ),
    Row(
        "GET",
        "workflows/{workflow}/stages/{stage}/result",
        "workflow:read:{workflow}",
        "read workflow:{workflow}",
        "workflows/no/stages/a/result",
    ),
    Row(
        "GET",
        "workflows/{workflow}/stages/{stage}/streams/{stream}",
        "workflow:read:{workflow}",
        "read workflow:{workflow}",
        "workflows/no/stages/a/streams/b",
        # It has yet to be stored or, after another row has cancelled the run, will not be.
        allowed=(404, 409),
    ),
    Row("GET", "pools", "pool:read", "read all pools"),
    Row("GET", "pools/{pool}", "pool:read:{pool}", "read pool:{pool}", "pools/no"),
    Row("GET", "pools/{pool}/history", "pool:read:{pool}", "read pool:{pool}", "pools/no/history"),
    Row("GET", "workers", "worker:read", "read all workers"),
    Row("GET", "workers/{worker}", "worker:read:{worker}", "read worker:{worker}", "workers/no"),
    Row("GET", "waits", "workflow:read", "read all workflows"),
    Row("GET", "waits?workflow_id={workflow}", "workflow:read:{workflow}", "read workflow:{workflow}"),
    Row("GET", "events?channel=global", "global:read", "read global"),
    Row("GET", "definitions", "workflow:read", "read all workflows"),
    Row(
        "POST",
        "workflows",
        "operate:demo_retry",
        "operate definition:demo_retry",
        body={"name": "demo_retry"},
        allowed=(201,),
    ),
    Row(
        "POST",
        "workflows/{workflow}/cancel",
        "operate:{workflow}",
        "operate workflow:{workflow}",
        "workflows/no/cancel",
    ),
    Row(
        "POST",
        "workflows/{workflow}/retry",
        "operate:{workflow}",
        "operate workflow:{workflow}",
        "workflows/no/retry",
        allowed=(409,),
    ),
    Row(
        "POST",
        "workflows/{workflow}/waits/{wait}/answer",
        "operate:{workflow}",
        "operate workflow:{workflow}",
        "workflows/no/waits/approve/answer",
        body={"answer": True},
        allowed=(404,),
    ),
    Row(
        "POST",
        "workflows/{workflow}/signals/{wait}",
        "operate:{workflow}",
        "operate workflow:{workflow}",
        "workflows/no/signals/approve",
        body={"payload": None},
        # Accepted, or refused after another row has cancelled the run.
        allowed=(200, 409),
    ),
    Row("POST", "pools/{pool}/drain", "operate:{pool}", "operate pool:{pool}", "pools/no/drain"),
    Row("POST", "pools/{pool}/reopen", "operate:{pool}", "operate pool:{pool}", "pools/no/reopen"),
    Row(
        "POST",
        "workers/{worker}/drain",
        "operate:{worker}",
        "operate worker:{worker}",
        "workers/no/drain",
        allowed=(409,),
    ),
)


@pytest.fixture(scope="session")
def ids(closed_server: MahavishnuServer) -> dict[str, str]:
    services = closed_server.services
    services.create_pool(pool_id="api-pool")
    services.register_worker(worker_id="api-worker", pool_id="api-pool")
    services.create_workflow(workflow_id="api-run", adapter="x", prompt="p", stages=["a"], pool_id="api-pool")
    ids = {"workflow": "api-run", "pool": "api-pool", "worker": "api-worker", "wait": "approve"}
    return {**ids, "stage": "a", "stream": "b"}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.method} {row.path}")
def test_path_checks_tokens_then_permissions_then_what_exists(
    closed_server: MahavishnuServer, ids: dict[str, str], row: Row
) -> None:
    path = row.path.format(**ids)

    def answered(path: str, given: str | None) -> tuple[int, str | None]:
        answer = call(closed_server, row.method, path, row.body, token=given)
        if answer.status == 401:
            assert answer.headers["WWW-Authenticate"] == "Bearer"
        return answer.status, answer.code

    assert answered(path, None) == (401, "AUTH_REQUIRED")
    assert answered(path, "bad") == (401, "AUTH_FAILED")
    assert answered(path, token("admin", secret="b" * 16 + "0123456789abcdef")) == (401, "AUTH_FAILED")
    small = token("event:write", "operate:other", "metrics:read", user_id="small")
    refused = call(closed_server, row.method, path, row.body, token=small)
    assert (refused.status, refused.code) == (403, "FORBIDDEN")
    assert refused.body["detail"] == f"No permission to {row.forbidden.format(**ids)}"
    sufficient = token(row.grant.format(**ids), user_id="sufficient")
    assert answered(path, sufficient)[0] in row.allowed
    if row.missing is not None:
        missing = call(closed_server, row.method, row.missing, row.body, token=small)
        existing_id, missing_id = path.split("/")[1], row.missing.split("/")[1]
        assert missing.text == refused.text.replace(existing_id, missing_id)
        assert answered(row.missing, token("admin", user_id="admin")) == (404, "NOT_FOUND")


@pytest.mark.parametrize("atomic", ["true", "false"])
def test_reports_need_a_token_and_a_permission_for_each_resource(closed_server: MahavishnuServer, atomic: str) -> None:
    def code(given: str | None) -> str | None:
        body = {"event": "workflow.started", "data": {"workflow_id": "api-reported", "adapter": "x", "prompt": "p"}}
        answer = call(closed_server, "POST", f"events?atomic={atomic}", body, token=given)
        if answer.status != 200:
            return answer.code
        (result,) = answer.body["results"]
        return str(result["error"]["code"]) if "error" in result else None

    assert code(None) == "AUTH_REQUIRED"
    assert code("bad") == "AUTH_FAILED"
    assert code(token("event:write:other", "workflow:read", "operate", user_id="small")) == "FORBIDDEN"
    assert code(token("event:write:api-*", user_id="sufficient")) is None


def test_table_has_every_path_of_the_api() -> None:
    names = {"workflow": "{workflow_id}", "pool": "{pool_id}", "worker": "{worker_id}", "wait": "{name}"}
    names |= {"stage": "{stage_name}", "stream": "{stream_name}"}
    tested = {(row.method, "/api/v1/" + row.path.format(**names).partition("?")[0]) for row in ROWS}
    paths = openapi_document(api, "/api/")["paths"]
    described = {(method.upper(), path) for path, item in paths.items() for method in item}
    # These have their own tests.
    own_tests = {("POST", "/api/v1/events"), ("GET", "/api/v1/permissions"), ("POST", "/api/v1/waits/{token}")}
    assert described - own_tests == tested


def test_workers_of_a_pool_and_channels_need_permission_for_these(
    closed_server: MahavishnuServer, ids: dict[str, str]
) -> None:
    of_pool = token(f"pool:read:{ids['pool']}", user_id="of-pool")
    for path, status in {
        f"workers?pool_id={ids['pool']}": 200,
        "workers?pool_id=other": 403,
        "workers": 403,
        f"events?channel=pool:{ids['pool']}": 200,
        f"events?channel=workflow:{ids['workflow']}": 403,
        "events?channel=summary": 403,
    }.items():
        assert call(closed_server, "GET", path, token=of_pool).status == status, path


def test_other_cookies_are_no_credentials(closed_server: MahavishnuServer) -> None:
    answer = call(closed_server, "GET", "workflows", headers={"Cookie": "sessionid=x; token=y"})
    assert answer.code == "AUTH_REQUIRED"
    assert "Set-Cookie" not in answer.headers


def test_address_with_many_refused_tokens_waits(start_server: StartServer) -> None:
    server = start_server(environment=REQUIRES_AUTH, max_auth_failures_per_minute=3)
    assert [call(server, "GET", "pools", token="bad").status for _ in range(3)] == [401, 401, 401]
    waits = call(server, "GET", "pools", token=token("admin"))
    assert (waits.status, waits.code) == (429, "RATE_LIMIT_EXCEEDED")
    assert 1 <= int(waits.headers["Retry-After"]) <= 60


def test_client_with_many_forbidden_requests_waits(start_server: StartServer) -> None:
    server = start_server(environment=REQUIRES_AUTH, max_forbidden_per_minute=3)
    guesses = [call(server, "GET", f"pools/p{number}", token=token("pool:read:p")) for number in range(4)]
    assert [each.code for each in guesses] == ["FORBIDDEN"] * 3 + ["RATE_LIMIT_EXCEEDED"]
    assert 1 <= int(guesses[-1].headers["Retry-After"]) <= 60
    assert call(server, "GET", "pools/p", token=token("pool:read:p")).code == "RATE_LIMIT_EXCEEDED"
    assert call(server, "GET", "pools/p", token=token("pool:read:p", user_id="other")).code == "NOT_FOUND"


def test_refusals_by_what_a_body_names_are_logged_and_counted(start_server: StartServer) -> None:
    server = start_server(environment=REQUIRES_AUTH, max_forbidden_per_minute=4)
    small = token("operate:demo_retry", "event:write:mine")
    foreign = [{"event": "workflow.started", "data": {"workflow_id": f"w{number}"}} for number in range(9)]
    new_pool = {"event": "worker.added", "data": {"worker_id": "mine", "pool_id": "p"}}
    answers = [
        call(server, "POST", "workflows", {"name": "demo_retry", "pool_id": "p"}, token=small),
        call(server, "POST", "events", foreign, token=small),
        call(server, "POST", "events?atomic=false", foreign, token=small),
        call(server, "POST", "events", new_pool, token=small),
        call(server, "POST", "events", new_pool, token=small),
    ]
    assert [each.code for each in answers] == ["FORBIDDEN", "FORBIDDEN", None, "FORBIDDEN", "RATE_LIMIT_EXCEEDED"]
    assert {result["error"]["code"] for result in answers[2].body["results"]} == {"FORBIDDEN"}
    log = server.log_text()
    for refusal in ("write pool:p", "write event:w0"):
        assert f"forbidden (No permission to {refusal}) by user 'ada', token None, on the API from 127.0.0.1" in log


def test_other_scheme_is_no_credential(closed_server: MahavishnuServer) -> None:
    answer = call(closed_server, "GET", "pools", headers={"Authorization": "Basic YTpi"})
    assert answer.code == "AUTH_REQUIRED"


def test_start_in_a_new_pool_needs_the_permission_to_create_it(closed_server: MahavishnuServer) -> None:
    closed_server.services.create_pool(pool_id="api-existing")

    def start(pool_id: str, *permissions: str) -> str | None:
        body = {"name": "demo_retry", "pool_id": pool_id}
        return call(closed_server, "POST", "workflows", body, token=token("operate:demo_retry", *permissions)).code

    assert start("api-new") == "FORBIDDEN"
    assert start("api-existing") is None
    assert start("api-new", "pool:write:api-*") is None
    assert start("api-new") is None


def test_revoked_token_is_refused_by_a_process_of_pages(start_server: StartServer) -> None:
    server = start_server(environment=REQUIRES_AUTH | {"MAHAVISHNU_SERVES": "pages"})
    revoked, other = token("admin", jti="a1"), token("admin", jti="a2")
    assert call(server, "GET", "pools", token=revoked).status == 200
    assert server.manage("revoke_token", "--token-id", "a1").returncode == 0
    wait_until(lambda: call(server, "GET", "pools", token=revoked).code == "AUTH_FAILED", timeout_seconds=5)
    assert call(server, "GET", "pools", token=other).status == 200
