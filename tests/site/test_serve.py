"""`make serve` and `manage.py serve`: one command, one address, and nothing left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mahavishnu_site.serve.supervisor import STOP_MARGIN_SECONDS
from tests.harness.client import connect
from tests.harness.ports import free_port
from tests.harness.serve import GONE_TIMEOUT_SECONDS, MAKE, MANAGE, START_TIMEOUT_SECONDS, Serve, StartServe
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


def terminate_supervisor_alone(run: Serve) -> None:
    run.supervisor().terminate()


def terminate_first_process_alone(run: Serve) -> None:
    run.process.terminate()


def kill_first_process_and_terminate_group(run: Serve) -> None:
    group = os.getpgid(run.process.pid)
    run.process.kill()
    run.process.wait()
    os.killpg(group, signal.SIGTERM)


def terminate_group_twice(run: Serve) -> None:
    run.signal_group(signal.SIGTERM)
    run.signal_group(signal.SIGTERM)


WAYS_TO_STOP = [
    interrupt,
    terminate_group,
    terminate_group_twice,
    terminate_supervisor_alone,
    terminate_first_process_alone,
    hang_up,
]


async def test_one_command_serves_and_says_where(serve: StartServe) -> None:
    run = serve(MAKE)
    health = run.wait_healthy()
    assert (health["host"], health["port"]) == ("127.0.0.1", run.port)
    said = run.output()
    for line in (
        f"ws://127.0.0.1:{run.port}",
        f"http://127.0.0.1:{run.port}/health",
        f"http://127.0.0.1:{run.port}/admin/",
    ):
        assert line in said
    async with connect(run) as client:
        assert client.welcome["event"] == "session.created"
        assert (await client.subscribe("global"))["data"]["status"] == "subscribed"


@pytest.mark.parametrize("stop", WAYS_TO_STOP)
def test_make_serve_leaves_no_process_behind(serve: StartServe, stop: Callable[[Serve], None]) -> None:
    run = serve(MAKE)
    run.wait_healthy()
    stop(run)
    run.wait_gone()


def test_make_serve_leaves_no_process_behind_when_make_dies_first(serve: StartServe) -> None:
    run = serve(MAKE)
    run.wait_healthy()
    kill_first_process_and_terminate_group(run)
    run.wait_gone()


@pytest.mark.parametrize("stop", [interrupt, terminate_group, terminate_supervisor_alone])
def test_a_wanted_stop_is_a_success(serve: StartServe, stop: Callable[[Serve], None]) -> None:
    run = serve(MANAGE)
    run.wait_healthy()
    stop(run)
    run.wait_gone()
    assert run.process.returncode == 0


@pytest.mark.parametrize("stop", [interrupt, terminate_group, hang_up])
@pytest.mark.parametrize("moment", ["Ctrl-C stops it.", "| valkey started", "| web started"])
def test_a_stop_while_it_starts_leaves_no_process_behind(
    serve: StartServe, stop: Callable[[Serve], None], moment: str
) -> None:
    run = serve(MANAGE)
    run.wait_for(moment)
    stop(run)
    run.wait_gone()


@pytest.mark.parametrize("part", ["daphne", "valkey-server"])
def test_a_part_that_crashes_takes_the_others_with_it(serve: StartServe, part: str) -> None:
    run = serve(MANAGE)
    run.wait_healthy()
    run.part(part).kill()
    run.wait_gone()
    assert run.process.returncode not in (0, None)


def test_a_part_whose_helper_is_killed_takes_the_others_with_it(serve: StartServe) -> None:
    run = serve(MANAGE)
    run.wait_healthy()
    run.part("daphne").parents()[0].kill()
    run.wait_gone()
    assert run.process.returncode not in (0, None)


def test_a_part_that_does_not_answer_is_ended_too(serve: StartServe) -> None:
    run = serve(MANAGE, REDIS_URL="redis://127.0.0.1:1", MAHAVISHNU_DRAIN_TIMEOUT_SECONDS="1")
    wait_until(lambda: has_part(run, "daphne"), timeout_seconds=START_TIMEOUT_SECONDS, what=run.output)
    run.part("daphne").suspend()
    terminate_supervisor_alone(run)
    run.process.wait(timeout=1 + STOP_MARGIN_SECONDS + GONE_TIMEOUT_SECONDS)
    run.wait_gone()


def has_part(run: Serve, word: str) -> bool:
    return bool(run.parts(word))


def test_it_goes_on_when_nobody_reads_what_it_prints(serve: StartServe) -> None:
    # As after `make serve | head -1`: the shell's pipe is closed once the first line was read.
    run = serve(("sh", "-c", f"{sys.executable} manage.py serve | head -1"))
    run.wait_healthy()
    terminate_group(run)
    run.wait_gone()


def test_with_a_redis_of_ones_own_no_valkey_is_started(serve: StartServe, valkey: Valkey) -> None:
    run = serve(MANAGE, REDIS_URL=valkey.url)
    assert run.wait_healthy()["redis"] == "up"
    assert not has_part(run, "valkey-server")
    terminate_group(run)
    run.wait_gone()


async def test_two_servers_run_side_by_side(serve: StartServe) -> None:
    one, other = serve(MANAGE), serve(MANAGE)
    assert one.wait_healthy()["log_epoch"] != other.wait_healthy()["log_epoch"]
    async with connect(one) as here, connect(other) as there:
        await here.subscribe("workflow:wf_here")
        await there.subscribe("workflow:wf_here")
        one.change_something("wf_here")
        assert (await here.event("workflow.started"))["data"]["workflow_id"] == "wf_here"
        await there.expect_nothing(1)
    terminate_group(one)
    one.wait_gone()
    assert other.wait_healthy()["status"] == "healthy"


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_an_ipv6_address_is_an_address(serve: StartServe, processes: str) -> None:
    run = serve(MANAGE, MAHAVISHNU_HOST="::1", MAHAVISHNU_PROCESSES=processes)
    assert run.wait_healthy()["host"] == "::1"
    assert f"ws://[::1]:{run.port}" in run.output()
    async with connect(run) as client:
        assert client.welcome["event"] == "session.created"


async def test_a_var_folder_too_deep_for_a_socket_serves_all_the_same(tmp_path: Path) -> None:
    run = Serve(MANAGE, var_dir=tmp_path / ("deep" * 30))
    try:
        assert run.wait_healthy()["redis"] == "up"
        terminate_group(run)
        run.wait_gone()
    finally:
        run.close()


def refused(tmp_path: Path, **variables: str) -> str:
    """Run `serve` with these variables, expect it to end at once with 1, and return what it said."""
    done = subprocess.run(
        MANAGE,
        cwd=PROJECT_DIR,
        env={**clean_environment(), "MAHAVISHNU_VAR_DIR": str(tmp_path / "refused"), **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr


def test_a_port_that_is_taken_is_said_plainly(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert refused(tmp_path, MAHAVISHNU_PORT=str(port)) == (
            f"CommandError: Port {port} on 127.0.0.1 is taken by another program. "
            "Stop it, or set MAHAVISHNU_PORT to a free port.\n"
        )


def test_port_0_is_refused(tmp_path: Path) -> None:
    assert "MAHAVISHNU_PORT='0': expected a whole number from 1 to 65535" in refused(tmp_path, MAHAVISHNU_PORT="0")


@pytest.mark.parametrize("host", ["203.0.113.1", "no-such-host.invalid"])
def test_an_address_of_another_machine_is_refused(tmp_path: Path, host: str) -> None:
    said = refused(tmp_path, MAHAVISHNU_HOST=host, MAHAVISHNU_PORT=str(free_port()))
    assert f"MAHAVISHNU_HOST='{host}': expected an address of this machine" in said


def test_a_var_folder_in_use_is_refused(serve: StartServe, tmp_path: Path) -> None:
    run = serve(MANAGE)
    run.wait_healthy()
    said = refused(tmp_path, MAHAVISHNU_VAR_DIR=str(run.var_dir), MAHAVISHNU_PORT=str(free_port()))
    assert f"Another server uses the folder {run.var_dir}" in said
    assert run.wait_healthy()["redis"] == "up"


def test_a_database_that_cannot_be_reached_is_said_without_its_password(tmp_path: Path) -> None:
    said = refused(tmp_path, DATABASE_URL="postgres://user:secret@127.0.0.1:1/name", MAHAVISHNU_PORT=str(free_port()))
    assert said.startswith("CommandError: The database that DATABASE_URL names cannot be used: connection failed")
    assert "secret" not in said


def test_a_stop_before_anything_is_served_leaves_no_process_behind(serve: StartServe) -> None:
    run = serve(MAKE)
    wait_until(lambda: bool(run.processes()), timeout_seconds=START_TIMEOUT_SECONDS)
    terminate_group(run)
    run.wait_gone()
