"""The npm package of the JavaScript client: its contents, and the README's examples from an installed copy."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mahavishnu_client.testing import FakeServer
from tests.clients.stored_stream import STORE_STREAM
from tests.docs.markdown import PROJECT_DIR
from tests.harness.browser import NODE
from tests.harness.health import read_health
from tests.harness.server import MahavishnuServer
from tests.harness.waiting import wait_until
from tests.javascript.npm import npm
from tests.javascript.readme import CLIENT_DIR, example

PACKAGE = json.loads((CLIENT_DIR / "package.json").read_text(encoding="utf-8"))
SERVED = PROJECT_DIR / "realtime" / "static" / "realtime" / "clients" / PACKAGE["version"] / "mahavishnu.js"
WITHIN_SECONDS = 60


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pack the client, install the package into an empty folder, and return that folder."""
    directory = tmp_path_factory.mktemp("npm")
    (packed,) = json.loads(npm("pack", CLIENT_DIR, "--json", directory=directory))
    assert sorted(file["path"] for file in packed["files"]) == [
        "LICENSE",
        "README.md",
        "mahavishnu.d.ts",
        "mahavishnu.js",
        "messages.d.ts",
        "package.json",
    ]
    npm("install", directory / packed["filename"], directory=directory)
    return directory


@contextmanager
def running(name: str, *, installed: Path, replaced: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Run an example of the README beside the installed package."""
    (installed / f"{name}.mjs").write_text(example(name, replaced), encoding="utf-8")
    command = [NODE, f"{name}.mjs"]
    process = subprocess.Popen(command, cwd=installed, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_package_has_no_dependencies_and_the_version_of_the_module() -> None:
    assert not {"dependencies", "peerDependencies", "optionalDependencies"} & PACKAGE.keys()
    assert f'export const VERSION = "{PACKAGE["version"]}";' in (CLIENT_DIR / "mahavishnu.js").read_text("utf-8")


def test_server_has_the_module_of_the_package() -> None:
    assert SERVED.read_bytes() == (CLIENT_DIR / "mahavishnu.js").read_bytes(), "run `make clients`"
    assert (CLIENT_DIR / "LICENSE").read_bytes() == (PROJECT_DIR / "LICENSE").read_bytes()


def test_printed_follow_example_shows_each_state(
    server: MahavishnuServer, installed: Path, unique: Callable[[str], str]
) -> None:
    workflow_id = unique("wf")
    services = server.services
    services.create_workflow(workflow_id=workflow_id, adapter="python", prompt="", stages=["one"])
    replaced = {"ws://127.0.0.1:8690": server.ws_url, "wf_1": workflow_id}
    with running("follow", installed=installed, replaced=replaced) as example:
        assert example.stdout is not None
        assert example.stdout.readline() == "pending 0 of 1 stages live\n"
        services.start_workflow(workflow_id=workflow_id)
        assert example.stdout.readline() == "running 0 of 1 stages live\n"


def test_printed_events_example_shows_each_event(
    server: MahavishnuServer, installed: Path, unique: Callable[[str], str]
) -> None:
    pool_id = unique("pool")
    rooms = read_health(server)[1]["rooms"]
    replaced = {"ws://127.0.0.1:8690": server.ws_url, "pool:reports": f"pool:{pool_id}"}
    with running("events", installed=installed, replaced=replaced) as example:
        assert example.stdout is not None
        wait_until(
            lambda: read_health(server)[1]["rooms"] > rooms, timeout_seconds=WITHIN_SECONDS, what="the subscription"
        )
        server.services.create_pool(pool_id=pool_id)
        assert " pool.created " in example.stdout.readline()


def test_printed_tokens_example_ends_when_the_token_expires(installed: Path) -> None:
    (installed / "token.txt").write_text("secret\n", encoding="utf-8")
    with FakeServer(require_token="secret") as server:
        server.create_workflow("wf_1", stages=["one"])
        with running("tokens", installed=installed, replaced={"ws://127.0.0.1:8690": server.url}) as example:
            assert example.stdout is not None
            assert example.stdout.readline() == "pending\n"
            server.expire("secret")
            output, _ = example.communicate(timeout=WITHIN_SECONDS)
    # The state is no longer live while the client tries another token.
    assert output == "pending\ntrue AUTH_FAILED: The token is invalid or expired\n"
    assert example.returncode == 0


def test_printed_streams_example_shows_the_chunks(
    server: MahavishnuServer, installed: Path, unique: Callable[[str], str]
) -> None:
    workflow_id = unique("wf")
    server.services_driver.execute(STORE_STREAM, workflow_id=workflow_id)
    replaced = {"ws://127.0.0.1:8690": server.ws_url, "wf_1": workflow_id}
    with running("streams", installed=installed, replaced=replaced) as example:
        output, _ = example.communicate(timeout=WITHIN_SECONDS)
    assert output.splitlines() == ["Hello, wörld", "The stage is completed"]
    assert example.returncode == 0


def test_printed_requests_example_answers_and_ends(
    server: MahavishnuServer, installed: Path, unique: Callable[[str], str]
) -> None:
    workflow_id = unique("wf")
    server.services.create_workflow(workflow_id=workflow_id, adapter="python", prompt="", stages=["one"])
    replaced = {"ws://127.0.0.1:8690": server.ws_url, "wf_1": workflow_id}
    with running("requests", installed=installed, replaced=replaced) as example:
        output, _ = example.communicate(timeout=WITHIN_SECONDS)
    assert output.splitlines() == ["pending", "true NOT_FOUND: Pool 'nowhere' not found"]
    assert example.returncode == 0
