"""`manage.py status`, with and without a server."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

import pytest
from pytest_django import Settings

from realtime.management import server_check
from realtime.management.server_check import ServerReport, server_report
from tests.harness.commands import command, run_with_closed_output
from tests.harness.fixtures import StartServer
from tests.harness.health import wait_for_health
from tests.harness.ports import HOST
from tests.harness.server import MahavishnuServer
from tests.harness.tokens import REQUIRES_AUTH

HEARTBEAT = "from orchestration import services\nservices.record_scheduler_heartbeat(alive=True)"

OLD_FAILURE = """
from datetime import timedelta
from orchestration import services
from orchestration.db.clock import database_now
at = database_now() - timedelta(hours=25)
services.create_workflow(workflow_id="wf_old", adapter="python", prompt="", stages=["only"], at=at)
services.fail_workflow(workflow_id="wf_old", error="Long ago", at=at)
"""


def fill(server: MahavishnuServer) -> None:
    """Store a pool with two workers, a running, a pending, and three failed workflows, one of them long ago."""
    services = server.services
    services.create_pool(pool_id="local")
    for number in (1, 2):
        services.register_worker(worker_id=f"box-{number}", pool_id="local")
    for name in ("running", "pending", "failed", "late"):
        services.create_workflow(
            workflow_id=f"wf_{name}", name="nightly", adapter="python", prompt="", stages=["only"], pool_id="local"
        )
    services.start_workflow(workflow_id="wf_running")
    services.queue_stage(workflow_id="wf_running", stage_name="only")
    services.fail_workflow(workflow_id="wf_failed", error="No \x1b[2J disk")
    services.time_out_workflow(workflow_id="wf_late")
    server.services_driver.execute(OLD_FAILURE)
    server.services_driver.execute(HEARTBEAT)


ASK = """
from datetime import timedelta
from orchestration.db.clock import database_now
from orchestration.models import Stage, Wait
stage = Stage.objects.get(workflow_id="wf_running")
asked = {"kind": "ask", "name": "only", "title": "Deploy?", "recipients": "group:ops\\nuser:ada"}
Wait.objects.create(workflow_id="wf_running", stage=stage, opened_at=database_now() - timedelta(hours=1), **asked)
"""


def test_status_lists_open_questions_and_how_to_answer_them(start_server: StartServer) -> None:
    server = start_server(started=False)
    fill(server)
    server.services_driver.execute(ASK)
    lines = [re.sub(r"\d\d:\d\d:\d\d", "T", line) for line in command(server, "status").stdout.splitlines()]
    first = lines.index("Questions that are open: 1")
    assert lines[first + 1 : first + 3] == [
        "  ? T wf_running only (for group:ops, user:ada): Deploy?",
        "    manage.py answer_workflow wf_running only",
    ]
    report = json.loads(command(server, "status", "--json").stdout)
    assert (report["asked"], report["questions"][0]["recipients"]) == (1, ["group:ops", "user:ada"])


def test_status_of_a_healthy_server(start_server: StartServer) -> None:
    server = start_server()
    fill(server)
    done = command(server, "status")
    assert (done.returncode, done.stderr) == (0, "")
    lines = [re.sub(r"\d\d:\d\d:\d\d", "T", line) for line in done.stdout.splitlines()]
    assert lines == [
        f"Server     healthy  {server.http_url}/",
        "Parts      database up, redis up, relay up, scheduler up",
        "Workflows  1 running, 1 pending; 1 stage queued",
        "  pool   status  workers  busy  idle  queued  running",
        "  local  open          2     0     2       1        0",
        "Failed in the last 24 hours: 2",
        "  ✕ T wf_late nightly: Execution timeout",
        f"    {server.http_url}/workflows/wf_late",
        r"  ✕ T wf_failed nightly: No \x1b[2J disk",
        f"    {server.http_url}/workflows/wf_failed",
    ]


def test_status_without_a_server_is_the_state_in_the_database(start_server: StartServer) -> None:
    server = start_server(started=False)
    fill(server)
    done = command(server, "status")
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout.splitlines()[:5] == [
        f"Server     not running  {server.http_url}/",
        f"           No server is running at {server.http_url}/health (Connection refused). "
        "Check MAHAVISHNU_HOST and MAHAVISHNU_PORT.",
        "           What follows is the state in the database.",
        "Parts      scheduler up",
        "Workflows  1 running, 1 pending; 1 stage queued",
    ]
    report = json.loads(command(server, "status", "--json").stdout)
    assert report["server"]["status"] == "not running"
    assert (report["running"], report["pending"], report["held"], report["failed"]) == (1, 1, 0, 2)
    assert report["pools"] == [
        {"pool_id": "local", "status": "active", "workers": 2, "busy": 0, "idle": 2, "queued": 1, "running": 0}
    ]
    assert [each["url"] for each in report["failures"]] == [
        f"{server.http_url}/workflows/{id}" for id in ("wf_late", "wf_failed")
    ]
    assert report["failures"][1]["error"] == "No \x1b[2J disk"


def test_status_reports_a_part_that_is_down(start_server: StartServer) -> None:
    server = start_server()
    server.valkey.kill()
    # The server uses the results of its checks for a second.
    wait_for_health(server, 503)
    done = command(server, "status")
    assert done.returncode == 3
    assert done.stdout.splitlines()[0] == f"Server     unhealthy  {server.http_url}/"
    assert "redis down" in done.stdout


def test_status_of_a_server_that_requires_credentials_has_no_parts(start_server: StartServer) -> None:
    server = start_server(environment={**REQUIRES_AUTH, "MAHAVISHNU_ALLOWED_ORIGINS": "https://shop.example.org"})
    report = json.loads(command(server, "status", "--json").stdout)
    assert (report["server"]["status"], report["server"]["parts"]) == ("healthy", {})


def test_status_without_a_database_is_one_line(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(started=False)
    server.environment["DATABASE_URL"] = f"sqlite:///{tmp_path}/none.sqlite3"
    done = server.manage("status")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("CommandError: Cannot use the database: no such table: ")


def test_server_that_does_not_answer_is_not_called_one_that_does_not_run(
    monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    monkeypatch.setattr(server_check, "HEALTH_TIMEOUT_SECONDS", 0.2)
    # It accepts connections, as the kernel does for a process that is stopped.
    with socket.create_server((HOST, 0)) as frozen:
        settings.MAHAVISHNU_HOST, settings.MAHAVISHNU_PORT = frozen.getsockname()
        report = server_report()
        address = f"http://{HOST}:{settings.MAHAVISHNU_PORT}/health"
    assert report == ServerReport(
        status="not answering", problems=[f"The server at {address} did not answer within 0.2 s."]
    )


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_closed_pipe_ends_the_command_without_a_traceback(start_server: StartServer, unbuffered: str) -> None:
    server = start_server(started=False)
    assert run_with_closed_output(server, "status", "--json", PYTHONUNBUFFERED=unbuffered) == (1, "")
