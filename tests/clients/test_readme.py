"""The examples of the README of the Python client, run as printed against a real server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from mahavishnu_client.testing import FakeServer
from tests.clients.stored_stream import STORE_STREAM
from tests.docs.markdown import blocks, page
from tests.harness.fixtures import StartServer
from tests.harness.health import read_health
from tests.harness.programs import PROJECT_DIR
from tests.harness.server import MahavishnuServer, clean_environment
from tests.harness.waiting import wait_until

README = page("clients/python/README.md")
ADDRESS = "ws://127.0.0.1:8690"
WITHIN_SECONDS = 60


@pytest.fixture(scope="module")
def server(start_module_server: StartServer) -> MahavishnuServer:
    """Start a server for this module alone, because the README has fixed ids and a test kills it."""
    return start_module_server()


def example(role: str) -> str:
    (block,) = blocks(README, language="python", role=role)
    return block.text


def running(role: str, url: str, directory: Path) -> AbstractContextManager[subprocess.Popen[str]]:
    return running_text(example(role), url, directory)


@contextmanager
def running_text(text: str, url: str, directory: Path) -> Iterator[subprocess.Popen[str]]:
    assert text.count(ADDRESS) == 1
    (directory / "example.py").write_text(text.replace(ADDRESS, url), encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-u", "example.py"],
        cwd=directory,
        env={**clean_environment(), "PYTHONPATH": str(PROJECT_DIR / "clients" / "python")},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def lines(process: subprocess.Popen[str], count: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline().rstrip() for _ in range(count)]


def test_first_example_of_the_readme_is_about_the_state_and_has_six_lines() -> None:
    first = blocks(README, language="python")[0]
    assert (first.role, len(first.text.splitlines())) == ("state", 6)
    assert blocks(page("README.md"), language="python")[0].text == first.text


@pytest.mark.timeout(WITHIN_SECONDS)
def test_readme_examples_print_states_events_and_answers(server: MahavishnuServer, tmp_path: Path) -> None:
    services = server.services
    services.create_workflow(workflow_id="wf_1", adapter="python", prompt="", stages=["load", "report"])
    with running("state", server.ws_url, tmp_path) as process:
        assert lines(process, 1) == ["pending 0 of 2 stages live"]
        services.start_workflow(workflow_id="wf_1")
        assert lines(process, 1) == ["running 0 of 2 stages live"]
        server.kill()
        (old,) = lines(process, 1)
        assert old.startswith("running 0 of 2 stages as of 20")
        services.start_stage(workflow_id="wf_1", stage_name="load")
        services.complete_stage(workflow_id="wf_1", stage_name="load")
        server.start()
        while (line := lines(process, 1)[0]) != "running 1 of 2 stages live":
            assert line.startswith("running "), line
    with running("requests", server.ws_url, tmp_path) as process:
        assert lines(process, 2) == ["running", "NOT_FOUND: Workflow 'wf_2' not found"]
        assert process.wait(WITHIN_SECONDS) == 0
    with running("events", server.ws_url, tmp_path) as process:
        wait_until(
            lambda: read_health(server)[1]["rooms"] > 0,
            timeout_seconds=WITHIN_SECONDS,
            what="the subscription of the example",
        )
        services.create_pool(pool_id="pool_1")
        # Events from just before its subscription may come first.
        while "pool.created" not in (line := lines(process, 1)[0]):
            assert line


@pytest.mark.timeout(WITHIN_SECONDS)
def test_readme_example_of_streams_prints_the_chunks(server: MahavishnuServer, tmp_path: Path) -> None:
    server.services_driver.execute(STORE_STREAM, workflow_id="wf_streamed")
    text = example("streams").replace("wf_1", "wf_streamed")
    with running_text(text, server.ws_url, tmp_path) as process:
        assert lines(process, 2) == ["Hello, wörld", "The stage is completed"]
        assert process.wait(WITHIN_SECONDS) == 0


@pytest.mark.parametrize("role", ["test", "test_tokens"])
def test_readme_test_passes(role: str) -> None:
    namespace: dict[str, object] = {}
    exec(example(role), namespace)
    (test,) = (value for name, value in namespace.items() if name.startswith("test_"))
    assert callable(test)
    test()


@pytest.mark.timeout(WITHIN_SECONDS)
def test_readme_example_of_tokens_ends_when_the_token_expires(tmp_path: Path) -> None:
    (tmp_path / "token.txt").write_text("secret\n", encoding="utf-8")
    with FakeServer(require_token="secret") as fake_server:
        fake_server.create_workflow("wf_1", stages=["load"])
        with running("tokens", fake_server.url, tmp_path) as process:
            assert lines(process, 1) == ["pending"]
            fake_server.expire("secret")
            # The state is no longer live while the client tries another token.
            assert lines(process, 2) == ["pending", "AUTH_FAILED: The token is invalid or expired"]
            assert process.wait(WITHIN_SECONDS) == 0
