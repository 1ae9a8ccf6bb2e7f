"""Several processes behind one port: how they start and stop together."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.fixtures import StartServer
from tests.harness.matchers import A_NUMBER, A_TIME, A_UUID
from tests.harness.processes import has_ended
from tests.harness.programs import PROJECT_DIR
from tests.harness.server import MahavishnuServer, clean_environment
from tests.harness.waiting import eventually
from tests.site.web_replicas import clients_of_every_process, processes_of

EXIT_TIMEOUT_SECONDS = 40

DRAINING_EVENT = {
    "id": A_UUID,
    "type": "event",
    "event": "session.draining",
    "data": {
        "retry_after_ms": A_NUMBER,
        "message": "This server is stopping: reconnect and subscribe with `since`",
    },
    "timestamp": A_TIME,
}


def terminate_group(server: MahavishnuServer) -> None:
    os.killpg(server.pid, signal.SIGTERM)


def kill_parent(server: MahavishnuServer) -> None:
    server.signal(signal.SIGKILL)


@pytest.mark.parametrize(("stop", "exit_code"), [(terminate_group, 0), (kill_parent, -signal.SIGKILL)])
async def test_prefork_stop_drains_every_client_and_leaves_no_process(
    start_server: StartServer,
    stop: Callable[[MahavishnuServer], None],
    exit_code: int,
) -> None:
    two = start_server(processes=2)
    serving = processes_of(two)
    # The parent forwards a signal to its group. A second one would end a draining daphne at once.
    assert [os.getpgid(process.pid) for process in serving] == [process.pid for process in serving]
    async with clients_of_every_process(two, per_process=1) as clients:
        stop(two)
        for client in clients:
            assert await client.next() == DRAINING_EVENT
            assert await client.wait_closed() == (1012, "DRAINING")
    assert await asyncio.to_thread(two.wait_ended) == exit_code
    await eventually(lambda: all(map(has_ended, serving)))


def test_prefork_names_the_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "mahavishnu_site.serve.prefork", "true"],
            cwd=PROJECT_DIR,
            env={
                **clean_environment(),
                "DJANGO_SETTINGS_MODULE": "mahavishnu_site.settings",
                "MAHAVISHNU_VAR_DIR": str(tmp_path),
                "MAHAVISHNU_PORT": str(port),
            },
            capture_output=True,
            text=True,
            timeout=EXIT_TIMEOUT_SECONDS,
            check=False,
        )
    assert (done.returncode, done.stdout, done.stderr) == (
        1,
        "",
        f"Port {port} on 127.0.0.1 is taken by another program. Stop it, or set MAHAVISHNU_PORT to a free port.\n",
    )
