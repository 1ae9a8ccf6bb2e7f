"""The systemd units of `deploy/systemd`: hardened in the same way, and their commands run the parts."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path

import jwt
import pytest

from orchestration.processes import process_tree
from realtime.exposure import CONFIGURATION_ERROR_EXIT_CODE
from tests.deploy.sandbox import can_sandbox, sandboxed
from tests.deploy.unit_files import UNITS, Unit, unit
from tests.docs.markdown import blocks, page
from tests.harness.client import connect
from tests.harness.fixtures import StartServer
from tests.harness.ports import free_port
from tests.harness.processes import kill_at_once
from tests.harness.programs import PROJECT_DIR
from tests.harness.server import MahavishnuServer
from tests.harness.waiting import wait_until

OPERATIONS = page("docs/operations.md")
LIMIT_SECONDS = 60
MAX_EXPOSURE = 2.5
"""Of `systemd-analyze security`: 0 is fully closed, 10 is open."""

MIN_SYSTEMD = 250
"""The first version that analyzes files."""

HARDENING = {
    "UMask": "0077",
    "StateDirectory": "mahavishnu",
    "StateDirectoryMode": "0700",
    "LogsDirectory": "mahavishnu",
    "LogsDirectoryMode": "0750",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "PrivateUsers": "yes",
    "ProtectClock": "yes",
    "ProtectControlGroups": "yes",
    "ProtectHostname": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectProc": "invisible",
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "LockPersonality": "yes",
    "RemoveIPC": "yes",
    "KeyringMode": "private",
    "SystemCallArchitectures": "native",
    "SystemCallFilter": "@system-service",
    "SystemCallErrorNumber": "EPERM",
}
PARTS = {"User": "mahavishnu", "Restart": "always"}
VARIABLES = "/etc/mahavishnu.env"
WORKER_VARIABLES = "-/etc/mahavishnu-worker.env"
"""Optional, and after the others: the last value of a variable counts."""

LIMITS = ("LimitNOFILE", "MemoryMax", "TasksMax", "TimeoutStopSec")

RUN = """
from orchestration.sdk import find_definition
result = find_definition("demo_retry").start("", failures=0, pool="local").workflow_id
"""


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_unit_is_hardened_and_limited(path: Path) -> None:
    settings = Unit(path, "x").settings()
    expected = {**HARDENING, **PARTS}
    if path.name == "mahavishnu-worker@.service":
        # A worker that is closed to its stages would be invisible to its supervisor too.
        expected["ProtectProc"] = "default"
    assert {name: settings.get(name) for name in expected} == expected
    runs_workflows = path.name.startswith(("mahavishnu-worker", "mahavishnu-scheduler"))
    files = re.findall(r"^EnvironmentFile=(.*)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert files == [VARIABLES, *([WORKER_VARIABLES] if runs_workflows else [])]
    assert set(LIMITS) <= set(settings)
    is_server = not runs_workflows
    assert settings.get("RestartPreventExitStatus") == (str(CONFIGURATION_ERROR_EXIT_CODE) if is_server else None)
    assert Unit(path).environment().get("MAHAVISHNU_REQUIRE_AUTH") == ("1" if is_server else None)
    assert Unit(path, "x").settings("Unit")["StartLimitIntervalSec"] == "0"


def test_there_is_a_unit_for_every_part() -> None:
    assert [path.name for path in UNITS] == [
        "mahavishnu-pages.service",
        "mahavishnu-scheduler.service",
        "mahavishnu-web@.service",
        "mahavishnu-worker@.service",
    ]
    assert unit("mahavishnu-worker@.service").settings()["KillMode"] == "mixed"


def test_units_run_the_documented_commands() -> None:
    (daphne,) = blocks(OPERATIONS, language="sh", role="daphne")
    (engine,) = blocks(OPERATIONS, language="sh", role="engine")
    commands = [
        unit("mahavishnu-web@.service", "8690"),
        unit("mahavishnu-worker@.service", "local"),
        unit("mahavishnu-scheduler.service"),
    ]
    started = [each.settings()["ExecStart"].removeprefix("/opt/mahavishnu/") for each in commands]
    assert started == [daphne.text.strip(), *engine.text.strip().splitlines()]
    web, pages = commands[0], unit("mahavishnu-pages.service")
    assert pages.settings()["ExecStart"] == web.settings()["ExecStart"].replace("8690", "8691")
    assert [each.environment().get("MAHAVISHNU_ROLE") for each in commands] == [None, "worker", "scheduler"]
    assert (web.environment()["MAHAVISHNU_SERVES"], pages.environment()["MAHAVISHNU_SERVES"]) == ("websocket", "pages")


def analyze(*arguments: str) -> str:
    """Return the output of `systemd-analyze`, or "" if it fails or the machine has none."""
    with contextlib.suppress(OSError):
        done = subprocess.run(
            ["systemd-analyze", "--no-pager", *arguments], capture_output=True, text=True, check=False
        )
        return f"{done.stdout}{done.stderr}" if done.returncode == 0 else ""
    return ""


# Collected only where it can run: a skipped test fails under CI. Older versions analyze only what runs.
if (version := re.match(r"systemd (\d+)", analyze("--version"))) and int(version[1]) >= MIN_SYSTEMD:

    @pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
    def test_unit_is_valid_and_exposes_little(path: Path, tmp_path: Path) -> None:
        copy = tmp_path / path.name.replace("@", "@local")
        # The programs of a production machine are not here.
        text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        copy.write_text(text)
        subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, check=True)
        assert "Unknown key" not in analyze("verify", str(copy))
        exposure = re.search(
            r"Overall exposure level for \S+: ([\d.]+)", analyze("security", "--offline=true", str(copy))
        )
        assert exposure is not None
        assert float(exposure[1]) <= MAX_EXPOSURE


# --- The commands, with the paths of this checkout ------------------------------------------------------------------

KEY = "a key that is only in this file, and long enough to be one"

Start = Callable[[Unit], "subprocess.Popen[bytes]"]


@pytest.fixture
def server(start_server: StartServer) -> MahavishnuServer:
    """Provide the address, environment and database of services that the test starts itself."""
    return start_server(started=False)


@pytest.fixture
def start(server: MahavishnuServer) -> Iterator[Start]:
    """Return a function that starts the command of a unit, in the sandbox of `tests.deploy.sandbox` if possible."""
    started: list[subprocess.Popen[bytes]] = []

    def start(part: Unit) -> subprocess.Popen[bytes]:
        temporary = server.var_dir / "tmp"
        temporary.mkdir(exist_ok=True)
        secret = server.var_dir / "credential"
        secret.write_text(KEY)
        variables = {
            name: str(secret) if value.startswith("%d/") else value for name, value in part.environment().items()
        }
        # Not the folder of all tests: a service may write to its own folders only.
        variables["MAHAVISHNU_STATIC_DIR"] = str(server.var_dir / "static")
        command = part.command()
        with (server.var_dir / f"{part.path.stem}.log").open("wb") as log:
            process = subprocess.Popen(
                sandboxed(command, writable=[server.var_dir]) if can_sandbox() else command,
                cwd=PROJECT_DIR,
                env={**server.environment, "TMPDIR": str(temporary), **variables},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        started.append(process)
        return process

    yield start
    for process in started:
        kill_at_once(process_tree(process.pid))
        process.wait(LIMIT_SECONDS)


def log_of(server: MahavishnuServer, part: Unit) -> str:
    return (server.var_dir / f"{part.path.stem}.log").read_text()


def status_of(url: str) -> int:
    # As from the proxy: otherwise, pages are redirected to TLS.
    request = urllib.request.Request(url, headers={"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return int(answer.status)


def wait_for_health(server: MahavishnuServer, part: Unit, process: subprocess.Popen[bytes], *, port: int) -> None:
    """Wait until `/health` of this port answers 200."""

    def is_healthy() -> bool:
        assert process.poll() is None, log_of(server, part)
        with contextlib.suppress(OSError):
            return status_of(f"http://127.0.0.1:{port}/health") == HTTPStatus.OK
        return False

    wait_until(is_healthy, timeout_seconds=LIMIT_SECONDS, what=lambda: log_of(server, part))


async def test_units_serve_websockets_and_pages(server: MahavishnuServer, start: Start, tmp_path: Path) -> None:
    web = unit("mahavishnu-web@.service", str(server.port))
    pages_port = free_port()
    copy = tmp_path / "mahavishnu-pages.service"
    original = unit("mahavishnu-pages.service").path.read_text()
    copy.write_text(original.replace("--port 8691", f"--port {pages_port}"))
    pages = Unit(copy)
    web_process, pages_process = start(web), start(pages)
    wait_for_health(server, web, web_process, port=server.port)
    wait_for_health(server, pages, pages_process, port=pages_port)
    claims = {"user_id": "reader", "permissions": ["global:read"], "exp": int(time.time()) + LIMIT_SECONDS}
    token = jwt.encode(claims, KEY, algorithm="HS256")
    async with connect(server, additional_headers={"Authorization": f"Bearer {token}"}) as client:
        await client.subscribe("global")
    assert await asyncio.to_thread(status_of, f"http://127.0.0.1:{pages_port}/admin/login/") == HTTPStatus.OK
    # The key came from the credential, so none was generated.
    assert not (server.var_dir / "secret_key").exists()
    for process in (web_process, pages_process):
        process.terminate()
    assert [web_process.wait(LIMIT_SECONDS), pages_process.wait(LIMIT_SECONDS)] == [0, 0]


def test_units_run_a_workflow(server: MahavishnuServer, start: Start) -> None:
    worker, scheduler = unit("mahavishnu-worker@.service", "local"), unit("mahavishnu-scheduler.service")
    worker_process, scheduler_process = start(worker), start(scheduler)
    workflow_id = server.services_driver.execute(RUN)
    code = "from orchestration.models import Workflow\nresult = Workflow.objects.get(pk=workflow_id).status"
    wait_until(
        lambda: server.services_driver.execute(code, workflow_id=workflow_id) == "completed",
        timeout_seconds=LIMIT_SECONDS,
        what=lambda: log_of(server, worker) + log_of(server, scheduler),
    )
    # KillMode=mixed: only the worker itself gets the signal.
    worker_process.terminate()
    scheduler_process.terminate()
    # On a busy machine the supervisor sends SIGQUIT to a worker that runs nothing and does not exit in time.
    assert worker_process.wait(LIMIT_SECONDS) in (0, -signal.SIGQUIT), log_of(server, worker)
    assert scheduler_process.wait(LIMIT_SECONDS) == 0, log_of(server, scheduler)
