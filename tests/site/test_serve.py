"""`make serve` and `manage.py serve`: what they start, check and print. See `test_process_manager.py` for the rest."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from mahavishnu_site.management.commands import serve as serve_command
from mahavishnu_site.management.commands.serve import STOP_MARGIN_SECONDS, programs_of
from mahavishnu_site.serve import prefork
from mahavishnu_site.serve.procfile import commands
from realtime.limits import LISTEN_BACKLOG
from tests.harness.client import connect
from tests.harness.ports import free_port
from tests.harness.programs import PROJECT_DIR
from tests.harness.serve import MAKE, MANAGE, START_TIMEOUT_SECONDS, StartServe
from tests.harness.server import clean_environment
from tests.harness.static_files import shared_static_files
from tests.harness.valkey import Valkey
from tests.harness.waiting import wait_until


async def test_make_serve_runs_are_independent_and_leave_no_process(serve: StartServe, tmp_path: Path) -> None:
    # One has two processes, an empty database, an IPv6 address, and a folder with a path that is not UTF-8, too long
    # for a socket.
    one = serve((*MAKE, "PROCESSES=2"), folder="deep" * 30 + "\udcff", migrated=False, MAHAVISHNU_HOST="::1")
    other = serve(MAKE, MAHAVISHNU_HOST="::1")
    health, other_health = one.wait_healthy(), other.wait_healthy()
    for report, run in ((health, one), (other_health, other)):
        assert (report["host"], report["port"], report["redis"]) == (run.host, run.port, "up")
        for line in (f"ws://{run.address}", f"http://{run.address}/health", f"http://{run.address}/admin/"):
            run.wait_for(line)
    assert health["log_epoch"] != other_health["log_epoch"]
    assert f"ws://[::1]:{one.port} with 2 processes" in one.output()
    assert len(one.process("serve.prefork").children()) == 2
    async with connect(one) as here, connect(other) as there:
        await here.subscribe("workflow:wf_here")
        await there.subscribe("workflow:wf_here")
        one.start_workflow("wf_here")
        assert (await here.event("workflow.started"))["data"]["workflow_id"] == "wf_here"
        await there.expect_nothing(1)

    # A third run cannot use the folder of another one.
    error = serve_error(tmp_path, MAHAVISHNU_VAR_DIR=str(other.var_dir), MAHAVISHNU_PORT=str(free_port()))
    assert f"Another server uses the folder {other.var_dir}" in error

    # make passes the signal on. Valkey is stopped after the programs that use it.
    one.main.terminate()
    one.wait_ended()
    (web_end,) = re.finditer(r"web_processes \(pid \d+\) exited with code 0", one.output())
    (valkey_end,) = re.finditer(r"valkey \(pid \d+\) exited with code 0", one.output())
    assert web_end.start() < valkey_end.start()
    health = other.wait_healthy()
    assert (health["status"], health["redis"]) == ("healthy", "up")

    # The other stops although make was killed first.
    group = os.getpgid(other.main.pid)
    other.main.kill()
    other.main.wait()
    os.killpg(group, signal.SIGTERM)
    other.wait_ended()


def test_serve_starts_no_valkey_with_redis_url_and_leaves_no_process_when_killed(
    serve: StartServe, valkey: Valkey
) -> None:
    run = serve(MANAGE, REDIS_URL=valkey.url)
    assert run.wait_healthy()["redis"] == "up"
    assert not run.processes_with("valkey-server")
    run.main.kill()
    run.wait_ended()


def test_make_serve_leaves_no_process_when_stopped_before_it_serves(serve: StartServe) -> None:
    run = serve(MAKE)
    wait_until(lambda: bool(run.processes_with("manage.py")), timeout_seconds=START_TIMEOUT_SECONDS)
    # Ctrl-C, which make receives too.
    run.signal_group(signal.SIGINT)
    run.wait_ended()


def test_serve_leaves_no_process_when_stopped_while_its_programs_start(serve: StartServe) -> None:
    run = serve(MANAGE)
    run.wait_for("web started")
    run.signal_group(signal.SIGINT)
    run.wait_ended()
    assert run.main.returncode == 0


def serve_error(tmp_path: Path, **variables: str) -> str:
    """Run `serve` with these variables, expect it to exit with 1, and return its error."""
    done = subprocess.run(
        MANAGE,
        cwd=PROJECT_DIR,
        env={
            **clean_environment(),
            **shared_static_files({}),
            "MAHAVISHNU_VAR_DIR": str(tmp_path / "none"),
            **variables,
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr


def test_serve_reports_an_unreachable_database_without_its_password(tmp_path: Path) -> None:
    error = serve_error(
        tmp_path, DATABASE_URL="postgres://user:secret@127.0.0.1:1/name", MAHAVISHNU_PORT=str(free_port())
    )
    assert error.startswith("CommandError: The database that DATABASE_URL names cannot be used: connection failed")
    assert "secret" not in error


def test_serve_refuses_a_broken_workflows_module_and_names_its_line(tmp_path: Path) -> None:
    module = tmp_path / "shop" / "workflows.py"
    module.parent.mkdir()
    module.write_text("\n\ndef (:\n")
    variables = {"PYTHONPATH": str(tmp_path), "MAHAVISHNU_APPS": "shop", "MAHAVISHNU_PORT": str(free_port())}
    error = serve_error(tmp_path, **variables)
    assert error.startswith("CommandError: Nothing was started: a workflow cannot be imported.\n")
    assert f"shop.workflows cannot be imported: SyntaxError: invalid syntax ({module}, line 3)." in error


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> dict[str, Any]:
    """Replace the process manager and the migration for a run of `serve` in this process.

    Returns:
        The arguments that the manager has received.
    """
    received: dict[str, Any] = {}

    class Manager:
        def __init__(self, programs: list[Any], **arguments: Any) -> None:
            received.update(arguments, programs=programs)

        def run(self) -> int:
            return 7

    monkeypatch.setattr(serve_command, "ProcessManager", Manager)
    monkeypatch.setattr(serve_command.Command, "migrate", lambda self: True)
    settings.MAHAVISHNU_PORT = free_port()
    return received


def test_serve_lets_its_programs_drain_and_exits_with_the_code_of_the_manager(
    manager: dict[str, Any], settings: Settings
) -> None:
    with pytest.raises(SystemExit) as exit:
        call_command("serve", processes=2)
    assert exit.value.code == 7
    assert manager["environment"]["MAHAVISHNU_PROCESSES"] == "2"
    assert [each.name for each in manager["programs"]] == ["web_processes", "worker", "scheduler"]
    drain_seconds = settings.MAHAVISHNU_LIMITS.drain_timeout_seconds
    assert manager["stop_timeout_seconds"] == drain_seconds + STOP_MARGIN_SECONDS
    assert STOP_MARGIN_SECONDS > prefork.KILL_MARGIN_SECONDS


def test_serve_stops_valkey_after_the_programs_that_use_it() -> None:
    programs = programs_of(processes=1, embeds_valkey=True)
    assert [(each.name, each.stops_last) for each in programs] == [
        ("valkey", True),
        ("web", False),
        ("worker", False),
        ("scheduler", False),
    ]


def test_serve_names_the_port_that_is_taken(manager: dict[str, Any], settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = settings.MAHAVISHNU_PORT = other.getsockname()[1]
        with pytest.raises(CommandError) as error:
            call_command("serve")
    assert str(error.value) == (
        f"Port {port} on 127.0.0.1 is taken by another program. Stop it, or set MAHAVISHNU_PORT to a free port."
    )
    assert not manager


@pytest.mark.parametrize("host", ["203.0.113.1", "no-such-host.invalid"])
def test_serve_rejects_an_address_of_another_machine(manager: dict[str, Any], settings: Settings, host: str) -> None:
    settings.MAHAVISHNU_HOST = host
    with pytest.raises(CommandError, match=f"MAHAVISHNU_HOST='{host}': expected an address of this machine"):
        call_command("serve")
    assert not manager


@pytest.mark.parametrize("number", ["0", "65", "two"])
def test_serve_rejects_an_invalid_number_of_processes(manager: dict[str, Any], number: str) -> None:
    with pytest.raises(CommandError, match=rf"argument --processes: '{number}': expected a whole number from 1 to 64$"):
        call_command("serve", "--processes", number)
    assert not manager


def test_procfile_commands_run_this_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/opt/a folder/python3")
    for line in commands().values():
        words = shlex.split(line)
        # `env` changes variables for this program alone.
        if words[1] == "env":
            del words[1 : words.index("/opt/a folder/python3")]
        assert words[:3] == ["exec", "/opt/a folder/python3", "-m"]
        assert "python" not in words


@pytest.mark.parametrize("name", ["worker", "scheduler"])
def test_procfile_withholds_keys_from_processes_that_need_none(name: str) -> None:
    secrets = {"SECRET_KEY": "a", "MAHAVISHNU_JWT_SECRET": "b", "MAHAVISHNU_JWT_SECRET_PREVIOUS": "c"}
    words = shlex.split(commands()[name])
    env = words[1 : words.index(sys.executable)]
    done = subprocess.run(env, env={"PATH": os.defpath, **secrets}, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {f"PATH={os.defpath}", f"MAHAVISHNU_ROLE={name}"}


def test_procfile_sets_the_listen_backlog() -> None:
    assert f":backlog={LISTEN_BACKLOG}" in commands()["web"]
