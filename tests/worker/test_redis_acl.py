"""The ACL file in `docs/operations.md` allows what servers, workers and schedulers do, and nothing else."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from mahavishnu_site.serve.valkey import arguments
from tests.docs.markdown import blocks, page
from tests.harness.client import connect
from tests.harness.engine import Engine
from tests.harness.engine_fixtures import FAST_POLLING, JOBS
from tests.harness.fixtures import StartServer
from tests.harness.health import read_health
from tests.harness.ports import HOST, free_port
from tests.harness.waiting import eventually, wait_until
from tests.worker.run_events import events_until_end

START_TIMEOUT_SECONDS = 30


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a Valkey with the documented ACL file, and return its host and port."""
    directory = tmp_path_factory.mktemp("valkey")
    (acl,) = blocks(page("docs/operations.md"), language="text", role="acl")
    (directory / "users.acl").write_text(acl.text)
    port = free_port()
    # The path of the folder is too long for a socket.
    command = arguments(socket_path=directory / "valkey.sock", directory=directory)
    options = ["--unixsocket", "", "--port", str(port), "--bind", HOST, "--aclfile", str(directory / "users.acl")]
    options += ["--proto-max-bulk-len", "1mb"]
    process = subprocess.Popen([*command, *options], stdin=subprocess.DEVNULL)
    try:
        wait_until(
            lambda: process.poll() is not None or answers(f"{HOST}:{port}"),
            timeout_seconds=START_TIMEOUT_SECONDS,
            what="Valkey's answer",
        )
        yield f"{HOST}:{port}"
    finally:
        process.kill()
        process.wait()


def url(address: str, part: str) -> str:
    return f"redis://mahavishnu_{part}:{part.upper()}_PASSWORD@{address}/0"


def answers(address: str) -> bool:
    try:
        with redis.Redis.from_url(url(address, "web")) as client:
            return bool(client.ping())
    except redis.ConnectionError:
        return False


async def test_every_part_works_with_its_documented_user(
    start_server: StartServer, address: str, pool: str, tmp_path: Path
) -> None:
    server = start_server(redis_url=url(address, "web"), environment={**JOBS, **FAST_POLLING})
    engine = Engine(server)
    try:
        redis_url = {"REDIS_URL": url(address, "worker")}
        worker = engine.worker(pool_id=pool, concurrency=1, **redis_url)
        scheduler = engine.scheduler(**redis_url)
        async with connect(server) as client:
            await client.subscribe("workflow:wf_acl")
            engine.start("retried", pool=pool, workflow_id="wf_acl", succeeds_at=2)
            await events_until_end(client)
        await eventually(lambda: read_health(server)[1]["redis"] == "up")
        assert worker.terminate() == 0
        assert scheduler.terminate() == 0
        for log in (worker.log_text(), scheduler.log_text(), server.log_text()):
            for failure in ("NOPERM", "permission", "forbids", "unavailable", "answered with an error", "Traceback"):
                assert failure not in log, log
    finally:
        engine.close()


@pytest.mark.parametrize("part", ["web", "worker"])
@pytest.mark.parametrize(
    "command",
    [
        ("GET", "another key"),
        ("LPUSH", "celery", "message"),
        ("PUBLISH", "another channel", "message"),
        ("EVAL", "return 1", "0"),
        ("CONFIG", "GET", "*"),
        ("KEYS", "*"),
        ("FLUSHALL",),
        ("MONITOR",),
        ("ACL", "LIST"),
        ("CLIENT", "LIST"),
    ],
    ids=lambda command: command[0],
)
def test_documented_user_may_do_nothing_else(address: str, part: str, command: tuple[str, ...]) -> None:
    client: Any
    with redis.Redis.from_url(url(address, part)) as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*command)


def test_client_without_a_password_is_refused(address: str) -> None:
    with redis.Redis.from_url(f"redis://{address}") as client, pytest.raises(redis.exceptions.AuthenticationError):
        client.ping()
