"""The examples of the README of the Python client, run as printed against a real server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

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


@contextmanager
def running(role: str, server: MahavishnuServer, directory: Path) -> Iterator[subprocess.Popen[str]]:
    text = example(role)
    assert text.count(ADDRESS) == 1
    (directory / "example.py").write_text(text.replace(ADDRESS, server.ws_url), encoding="utf-8")
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
    with running("state", server, tmp_path) as process:
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
    with running("requests", server, tmp_path) as process:
        assert lines(process, 2) == ["running", "NOT_FOUND: Workflow 'wf_2' not found"]
        assert process.wait(WITHIN_SECONDS) == 0
    with running("events", server, tmp_path) as process:
        wait_until(
            lambda: read_health(server)[1]["rooms"] > 0,
            timeout_seconds=WITHIN_SECONDS,
            what="the subscription of the example",
        )
        services.create_pool(pool_id="pool_1")
        # Events from just before its subscription may come first.
        while "pool.created" not in (line := lines(process, 1)[0]):
            assert line


def test_readme_test_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    namespace: dict[str, object] = {}
    exec(example("test"), namespace)
    test = namespace["test_program_sees_the_start_of_a_run"]
    assert callable(test)
    test()
