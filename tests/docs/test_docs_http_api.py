"""The command lines and programs of `docs/http-api.md`, run as printed against a real server."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from realtime.api.api import api
from realtime.api.openapi import openapi_document
from realtime.protocol.problems import PROBLEM_TYPES
from tests.api.http_calls import call
from tests.clients.stored_stream import STORE_STREAM
from tests.docs.markdown import blocks, page, table
from tests.harness.browser import NODE
from tests.harness.curl import HTTP_ERROR_EXIT_CODE, curl, stand_in
from tests.harness.server import MahavishnuServer
from tests.harness.tokens import token

HTTP_API = page("docs/http-api.md")
ADDRESS = "http://127.0.0.1:8690"
TIMEOUT_SECONDS = 60


LINK: list[str] = []
"""The end of a link that answers a question of a run."""

ASK = """
from orchestration import services
from orchestration.sdk import Plan, ask, plan_stages
from tests.jobs.questions import Approval
plan = Plan(name="release", adapter="python", stages=plan_stages([ask("approve", Approval)]))
for workflow_id in workflow_ids:
    services.start_run(plan, prompt="", params={}, pool_id="default", workflow_id=workflow_id)
"""
MAKE_LINK = """
from orchestration.sdk import Run
from orchestration.testing import RunStuck
from orchestration.testing.inline_worker import InlineWorker
try:
    InlineWorker("release-2").run_to_the_end()
except RunStuck:
    result = Run("release-2").answer_link("approve")
"""


@pytest.fixture(scope="session")
def documented(closed_server: MahavishnuServer) -> MahavishnuServer:
    """Store what the page talks about, on a server that requires tokens."""
    closed_server.services.create_pool(pool_id="default")
    closed_server.services.join_pool(name="host", process="documented", pool_id="default")
    start = {"name": "demo_retry", "workflow_id": "nightly-1", "pool_id": "default"}
    assert call(closed_server, "POST", "workflows", start, token=token("admin")).status == 201
    closed_server.services_driver.execute(STORE_STREAM, workflow_id="article-1")
    closed_server.services_driver.execute(ASK, workflow_ids=["release-1", "release-2"])
    LINK.append(closed_server.services_driver.execute(MAKE_LINK).rpartition("/")[2])
    return closed_server


def environment() -> dict[str, str]:
    return {**os.environ, "TOKEN": token("admin", user_id="documented")}


def command_lines() -> list[list[str]]:
    found = blocks(HTTP_API, language="sh", role="curl")
    return [shlex.split(line) for block in found for line in block.text.splitlines()]


def test_page_has_a_command_line_and_a_row_for_every_operation() -> None:
    ids = {"nightly-1": "{workflow_id}", "default": "{pool_id}", "host-1": "{worker_id}", "release-1": "{workflow_id}"}
    ids |= {"approve": "{name}", "paid": "{name}", "$LINK": "{token}"}
    ids |= {"article-1": "{workflow_id}", "reply": "{stream_name}"}
    shown = set()
    for line in command_lines():
        path = line[-1].removeprefix(ADDRESS).partition("?")[0].replace("stages/answer/", "stages/{stage_name}/")
        parts = [ids.get(part, part) for part in path.split("/")]
        shown.add(("POST" if "-d" in line or "-X" in line else "GET", "/".join(parts)))
    paths = openapi_document(api, "/api/")["paths"]
    described = {(method.upper(), path) for path, item in paths.items() for method in item}
    assert shown == described


def test_command_lines_are_answered(documented: MahavishnuServer, tmp_path: Path) -> None:
    program = curl(tmp_path)
    for line in command_lines():
        done = run_line(line, program, documented)
        begin = "Hello, wörld" if line[-1].endswith("/streams/reply") else "{"
        assert (done.returncode, done.stdout[: len(begin)]) == (0, begin), (line, done.stdout, done.stderr)


def test_stand_in_answers_command_lines_like_curl(documented: MahavishnuServer, tmp_path: Path) -> None:
    (pool,) = (line for line in command_lines() if line[-1].endswith("/pools/default"))
    (drain,) = (line for line in command_lines() if line[-1].endswith("/workers/host-1/drain"))
    program = str(stand_in(tmp_path))
    assert json.loads(run_line(pool, program, documented).stdout)["pool"]["pool_id"] == "default"
    assert json.loads(run_line(drain, program, documented).stdout)["worker_id"] == "host-1"
    refused = run_line([*pool[:-1], f"{ADDRESS}/api/v1/pools/none"], program, documented)
    assert (refused.returncode, json.loads(refused.stdout)["code"]) == (HTTP_ERROR_EXIT_CODE, "NOT_FOUND")


def run_line(line: list[str], program: str, server: MahavishnuServer) -> subprocess.CompletedProcess[str]:
    arguments = [part.replace(ADDRESS, server.http_url) for part in line[1:]]
    arguments = [part.replace("$LINK", LINK[0]) for part in arguments]
    arguments = [part.replace("$TOKEN", token("admin", user_id="documented")) for part in arguments]
    command = [program, "--silent", "--show-error", "--fail-with-body", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)


@pytest.mark.parametrize(("language", "program"), [("python", [sys.executable]), ("javascript", [NODE])])
def test_example_starts_a_workflow(
    documented: MahavishnuServer, tmp_path: Path, language: str, program: list[str]
) -> None:
    (block,) = blocks(HTTP_API, language=language, role="api")
    file = tmp_path / ("example.py" if language == "python" else "example.mjs")
    file.write_text(block.text.replace(ADDRESS, documented.http_url), encoding="utf-8")
    done = subprocess.run(
        [*program, str(file)], env=environment(), capture_output=True, text=True, timeout=TIMEOUT_SECONDS
    )
    assert done.returncode == 0, done.stderr
    workflow_id, seq, status = done.stdout.split()
    assert workflow_id.startswith("wf_")
    assert int(seq) > 0
    assert status == "running"


def test_page_links_to_reporting() -> None:
    assert "](reporting.md)" in HTTP_API.read_text(encoding="utf-8")


def test_body_that_is_too_big_is_answered_with_a_problem(documented: MahavishnuServer) -> None:
    with socket.create_connection(("127.0.0.1", documented.port), TIMEOUT_SECONDS) as connection:
        connection.sendall(b"POST /api/v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n")
        head, _, body = connection.makefile("rb").read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413 ")
    assert b"\r\nContent-Type: application/problem+json\r\n" in head
    assert json.loads(body) == {
        "type": "urn:mahavishnu:problem:body-too-big",
        "title": "The body is too big",
        "status": 413,
        "detail": "Expected a body of at most 1048576 bytes (MAHAVISHNU_MAX_BODY_BYTES)",
        "code": "BODY_TOO_BIG",
    }


def test_page_lists_every_problem() -> None:
    rows = {row["Code"].strip("`"): int(row["Status"]) for row in table(HTTP_API, first="Code")}
    assert rows == {str(code): kind.status for code, kind in PROBLEM_TYPES.items()}
