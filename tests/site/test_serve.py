"""`make serve` and `manage.py serve`: how they start, stop and fail."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mahavishnu_site.management.commands.serve import STOP_MARGIN_SECONDS
from mahavishnu_site.serve.procfile import commands
from realtime.limits import LISTEN_BACKLOG
from tests.harness.client import connect
from tests.harness.ports import free_port
from tests.harness.serve import MAKE, MANAGE, START_TIMEOUT_SECONDS, STOP_TIMEOUT_SECONDS, Serve, StartServe
from tests.harness.server import clean_environment
from tests.harness.services import PROJECT_DIR
from tests.harness.valkey import Valkey
from tests.harness.waiting import wait_until


def interrupt(run: Serve) -> None:
    run.signal_group(signal.SIGINT)


def terminate_group(run: Serve) -> None:
    run.signal_group(signal.SIGTERM)


def hang_up(run: Serve) -> None:
    run.signal_group(signal.SIGHUP)


def terminate_manager_only(run: Serve) -> None:
    run.manager().terminate()


def terminate_main_process_only(run: Serve) -> None:
    run.main.terminate()


def kill_main_process_and_terminate_group(run: Serve) -> None:
    group = os.getpgid(run.main.pid)
    run.main.kill()
    run.main.wait()
    os.killpg(group, signal.SIGTERM)


def terminate_group_twice(run: Serve) -> None:
    run.signal_group(signal.SIGTERM)
    run.signal_group(signal.SIGTERM)


WAYS_TO_STOP = [
    interrupt,
    terminate_group,
    terminate_group_twice,
    terminate_manager_only,
    terminate_main_process_only,
    hang_up,
]


async def test_make_serve_prints_its_addresses_and_serves(serve: StartServe) -> None:
    run = serve(MAKE)
    health = run.wait_healthy()
    assert (health["host"], health["port"]) == ("127.0.0.1", run.port)
    output = run.output()
    for line in (
        f"ws://127.0.0.1:{run.port}",
        f"http://127.0.0.1:{run.port}/health",
        f"http://127.0.0.1:{run.port}/admin/",
    ):
        assert line in output
    async with connect(run) as client:
        assert client.welcome["event"] == "session.created"
        assert (await client.subscribe("global"))["data"]["status"] == "subscribed"


@pytest.mark.parametrize("stop", WAYS_TO_STOP)
def test_make_serve_leaves_no_process_after_a_stop(serve: StartServe, stop: Callable[[Serve], None]) -> None:
    run = serve(MAKE)
    run.wait_healthy()
    stop(run)
    run.wait_ended()


def test_make_serve_leaves_no_process_when_make_is_killed_first(serve: StartServe) -> None:
    run = serve(MAKE)
    run.wait_healthy()
    kill_main_process_and_terminate_group(run)
    run.wait_ended()


@pytest.mark.parametrize("stop", [interrupt, terminate_group, terminate_manager_only])
def test_serve_exits_with_0_after_a_stop_signal(serve: StartServe, stop: Callable[[Serve], None]) -> None:
    run = serve(MANAGE)
    run.wait_healthy()
    stop(run)
    run.wait_ended()
    assert run.main.returncode == 0


@pytest.mark.parametrize("stop", [interrupt, terminate_group, hang_up])
@pytest.mark.parametrize("moment", ["Ctrl-C stops it.", "valkey started", "web started"])
def test_serve_leaves_no_process_when_stopped_during_startup(
    serve: StartServe, stop: Callable[[Serve], None], moment: str
) -> None:
    run = serve(MANAGE)
    run.wait_for(moment)
    stop(run)
    run.wait_ended()


@pytest.mark.parametrize("program", ["daphne", "valkey-server"])
def test_serve_stops_everything_when_a_program_crashes(serve: StartServe, program: str) -> None:
    run = serve(MANAGE)
    run.wait_healthy()
    run.process(program).kill()
    run.wait_ended()
    assert run.main.returncode not in (0, None)


def test_serve_kills_a_program_that_ignores_sigterm(serve: StartServe) -> None:
    run = serve(MANAGE, REDIS_URL="redis://127.0.0.1:1", MAHAVISHNU_DRAIN_TIMEOUT_SECONDS="1")
    wait_until(lambda: has_process(run, "daphne"), timeout_seconds=START_TIMEOUT_SECONDS, what=run.output)
    run.process("daphne").suspend()
    terminate_manager_only(run)
    run.main.wait(timeout=1 + STOP_MARGIN_SECONDS + STOP_TIMEOUT_SECONDS)
    run.wait_ended()


def has_process(run: Serve, word: str) -> bool:
    return bool(run.processes_with(word))


def test_serve_keeps_running_when_its_output_is_closed(serve: StartServe) -> None:
    # As after `make serve | head -1`: the pipe is closed after the first line.
    run = serve(("sh", "-c", f"{sys.executable} manage.py serve | head -1"))
    run.wait_healthy()
    terminate_group(run)
    run.wait_ended()


def test_serve_starts_no_valkey_when_redis_url_is_set(serve: StartServe, valkey: Valkey) -> None:
    run = serve(MANAGE, REDIS_URL=valkey.url)
    assert run.wait_healthy()["redis"] == "up"
    assert not has_process(run, "valkey-server")
    terminate_group(run)
    run.wait_ended()


async def test_two_serve_runs_are_independent(serve: StartServe) -> None:
    one, other = serve(MANAGE), serve(MANAGE)
    assert one.wait_healthy()["log_epoch"] != other.wait_healthy()["log_epoch"]
    async with connect(one) as here, connect(other) as there:
        await here.subscribe("workflow:wf_here")
        await there.subscribe("workflow:wf_here")
        one.start_workflow("wf_here")
        assert (await here.event("workflow.started"))["data"]["workflow_id"] == "wf_here"
        await there.expect_nothing(1)
    terminate_group(one)
    one.wait_ended()
    assert other.wait_healthy()["status"] == "healthy"


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_serve_listens_on_an_ipv6_address(serve: StartServe, processes: str) -> None:
    run = serve(MANAGE, MAHAVISHNU_HOST="::1", MAHAVISHNU_PROCESSES=processes)
    assert run.wait_healthy()["host"] == "::1"
    assert f"ws://[::1]:{run.port}" in run.output()
    async with connect(run) as client:
        assert client.welcome["event"] == "session.created"


async def test_serve_runs_in_a_var_dir_too_deep_for_a_socket(tmp_path: Path) -> None:
    run = Serve(MANAGE, var_dir=tmp_path / ("deep" * 30))
    try:
        assert run.wait_healthy()["redis"] == "up"
        terminate_group(run)
        run.wait_ended()
    finally:
        run.close()


def serve_error(tmp_path: Path, **variables: str) -> str:
    """Run `serve` with these variables, expect it to exit with 1, and return its error."""
    done = subprocess.run(
        MANAGE,
        cwd=PROJECT_DIR,
        env={**clean_environment(), "MAHAVISHNU_VAR_DIR": str(tmp_path / "var"), **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr


def test_serve_names_the_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert serve_error(tmp_path, MAHAVISHNU_PORT=str(port)) == (
            f"CommandError: Port {port} on 127.0.0.1 is taken by another program. "
            "Stop it, or set MAHAVISHNU_PORT to a free port.\n"
        )


def test_serve_rejects_port_0(tmp_path: Path) -> None:
    assert "MAHAVISHNU_PORT='0': expected a whole number from 1 to 65535" in serve_error(tmp_path, MAHAVISHNU_PORT="0")


@pytest.mark.parametrize("host", ["203.0.113.1", "no-such-host.invalid"])
def test_serve_rejects_an_address_of_another_machine(tmp_path: Path, host: str) -> None:
    error = serve_error(tmp_path, MAHAVISHNU_HOST=host, MAHAVISHNU_PORT=str(free_port()))
    assert f"MAHAVISHNU_HOST='{host}': expected an address of this machine" in error


def test_serve_rejects_a_var_dir_in_use(serve: StartServe, tmp_path: Path) -> None:
    run = serve(MANAGE)
    run.wait_healthy()
    error = serve_error(tmp_path, MAHAVISHNU_VAR_DIR=str(run.var_dir), MAHAVISHNU_PORT=str(free_port()))
    assert f"Another server uses the folder {run.var_dir}" in error
    assert run.wait_healthy()["redis"] == "up"


def test_serve_reports_an_unreachable_database_without_its_password(tmp_path: Path) -> None:
    error = serve_error(
        tmp_path, DATABASE_URL="postgres://user:secret@127.0.0.1:1/name", MAHAVISHNU_PORT=str(free_port())
    )
    assert error.startswith("CommandError: The database that DATABASE_URL names cannot be used: connection failed")
    assert "secret" not in error


def test_make_serve_leaves_no_process_when_stopped_before_it_serves(serve: StartServe) -> None:
    run = serve(MAKE)
    wait_until(lambda: bool(run.processes()), timeout_seconds=START_TIMEOUT_SECONDS)
    terminate_group(run)
    run.wait_ended()


def test_procfile_sets_the_listen_backlog() -> None:
    assert f":backlog={LISTEN_BACKLOG}" in commands()["web"]
