"""Every demonstration, started from the command line and run by a real worker."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.client import connect
from tests.harness.commands import command
from tests.harness.engine import Engine
from tests.harness.server import MahavishnuServer

POOL = "demonstrations"

SOURCES = {
    "shop/__init__.py": "",
    "shop/prices.py": '''"""Prices."""

import json
from decimal import Decimal


# What it costs.
def price(text):
    """Read a price."""
    if not text:
        return None
    return Decimal(json.loads(text))
''',
    "shop/broken.py": "def (:\n",
    ".hidden/secret.py": "1 / 0\n",
    "notes.txt": "not Python\n",
}

SUMMARY = (
    "3 files, 13 lines (9 of code, 1 of comments, 3 blank), 0 classes, 1 functions (1 documented), 2 packages imported."
)

REPORT = """\
# Python source report

{root}: {summary}

## Longest files

| lines | |
|---:|---|
| 12 | shop/prices.py |
| 1 | shop/broken.py |
| 0 | shop/__init__.py |

## Longest functions

| lines | |
|---:|---|
| 5 | shop/prices.py:8 price |

## Most branched functions

| branches | |
|---:|---|
| 2 | shop/prices.py:8 price |

## Most imported packages

| files | |
|---:|---|
| 1 | decimal |
| 1 | json |

## Not Python

- shop/broken.py
"""


@pytest.fixture(scope="module")
def engine(engine_server: MahavishnuServer) -> Iterator[Engine]:
    engine = Engine(engine_server)
    try:
        engine.worker(pool_id=POOL, concurrency=2)
        yield engine
    finally:
        engine.close()
        engine.expire_workers(POOL)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Write a small source tree and return its path."""
    for name, text in SOURCES.items():
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path / "tree"


Watched = tuple[int, list[str]]


@pytest.fixture
def watch(engine: Engine) -> Callable[..., Watched]:
    """Return a function that runs a demonstration and returns its exit code and lines, without ids and durations."""

    def run(name: str, **params: Any) -> Watched:
        arguments = [each for key, value in params.items() for each in ("--param", f"{key}={value}")]
        done = command(engine.server, "run_workflow", name, "--watch", "--pool", POOL, *arguments)
        assert done.stderr == ""
        lines = re.sub(r"wf_[0-9a-f]{32}", "WF", re.sub(r"\d+\.\d{3} s\b", "T s", done.stdout)).splitlines()
        lines[0], _, url = lines[0].partition(": ")
        assert url == f"{engine.server.http_url}/workflows/WF"
        return done.returncode, lines

    return run


def test_source_report_writes_a_report_of_real_files(watch: Callable[..., Watched], tree: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.md"
    code, lines = watch("source_report", path=tree, report=report)
    assert code == 0
    assert sorted(lines[2:5]) == [
        f"{name} completed after T s" for name in ("count_lines", "follow_imports", "measure_functions")
    ]
    final = {"report": str(report), "files": 3, "lines": 13, "functions": 1}
    assert [*lines[:2], *lines[5:]] == [
        "WF (source_report) started",
        "find_files completed after T s",
        "write_report completed after T s",
        f"WF completed after T s: {json.dumps(final, separators=(',', ':'))}",
    ]
    assert report.read_text(encoding="utf-8") == REPORT.format(root=tree, summary=SUMMARY)


def test_source_report_replaces_only_an_earlier_report(
    watch: Callable[..., Watched], tree: Path, tmp_path: Path
) -> None:
    report = tmp_path / "report.md"
    report.write_text("# Python source report\n\nof an earlier run\n")
    assert watch("source_report", path=tree, report=report)[0] == 0
    assert report.read_text(encoding="utf-8") == REPORT.format(root=tree, summary=SUMMARY)
    precious = tmp_path / "precious.md"
    precious.write_text("# Not a report\n")
    code, lines = watch("source_report", path=tree, report=precious)
    assert (code, lines[-1]) == (
        3,
        f"WF failed: The stage write_report failed: {precious} exists and is not a report: it is not replaced",
    )
    assert precious.read_text() == "# Not a report\n"


def test_demo_failure_fails_with_the_error_of_its_stage(watch: Callable[..., Watched]) -> None:
    error = "FileNotFoundError: [Errno 2] No such file or directory: 'a file that does not exist'"
    assert watch("demo_failure") == (
        3,
        [
            "WF (demo_failure) started",
            "prepare completed after T s",
            f"read_missing_file failed: {error}",
            f"WF failed: The stage read_missing_file failed: {error}",
        ],
    )


def test_demo_retry_succeeds_after_a_retry(watch: Callable[..., Watched]) -> None:
    assert watch("demo_retry", failures=1) == (
        0,
        [
            "WF (demo_retry) started",
            "prepare completed after T s",
            "succeed_in_the_end failed, retrying: Attempt 1 fails: failures=1",
            "succeed_in_the_end completed after T s",
            'WF completed after T s: {"attempts":2}',
        ],
    )


def test_demo_cancel_cancels_its_run(watch: Callable[..., Watched]) -> None:
    assert watch("demo_cancel", after_seconds=0.5) == (
        4,
        ["WF (demo_cancel) started", "prepare completed after T s", "WF cancelled: Time is up"],
    )


def test_demo_timeout_exceeds_its_time_limit(watch: Callable[..., Watched]) -> None:
    assert watch("demo_timeout") == (
        5,
        ["WF (demo_timeout) started", "prepare completed after T s", "WF timed out: Execution timeout"],
    )


def test_demo_command_runs_programs(watch: Callable[..., Watched], tree: Path) -> None:
    code, lines = watch("demo_command", path=tree)
    # Parallel programs end in any order, and one that fails may cancel the other.
    assert code == 3
    assert lines[:2] == ["WF (demo_command) started", "which_python completed after T s"]
    assert lines[-1] == (
        "WF failed: The stage compile failed: python exited with code 1: "
        "shop/broken.py: invalid syntax (broken.py, line 1)"
    )
    (tree / "shop" / "broken.py").unlink()
    code, lines = watch("demo_command", path=tree)
    assert code == 0
    output = json.loads(lines[-1].partition(": ")[2])
    assert output == {
        "compile": {
            "exit_code": 0,
            "stdout": "2 of 2 files compile\n",
            "stderr": "",
            "stdout_bytes": 21,
            "stderr_bytes": 0,
            "truncated": False,
        },
        "count": {
            "exit_code": 0,
            "stdout": "2\n",
            "stderr": "",
            "stdout_bytes": 2,
            "stderr_bytes": 0,
            "truncated": False,
        },
    }


def test_demo_llamaindex_runs_a_llamaindex_workflow(watch: Callable[..., Watched], tree: Path) -> None:
    code, lines = watch("demo_llamaindex", path=tree)
    assert code == 0
    steps = ["SummaryFlow", "ask", "choose", "collect"]
    assert sorted(lines[1:-1]) == [f"{step} completed after T s" for step in steps]
    assert json.loads(lines[-1].partition(": ")[2]) == {
        "shop/prices.py": "Prices.",
        "shop/broken.py": "Not Python.",
        "shop/__init__.py": "No docstring.",
    }


async def test_client_receives_the_events_of_a_demonstration(
    engine: Engine, unique: Callable[[str], str], tree: Path
) -> None:
    workflow_id = unique("wf_demo")
    start = """
from orchestration.sdk import find_definition
find_definition("source_report").start(
    "Look at it", pool=pool, workflow_id=workflow_id, path=path, report=path + "/report.md"
)
"""
    async with connect(engine.server) as client:
        await client.subscribe(f"workflow:{workflow_id}")
        await asyncio.to_thread(engine.execute, start, pool=POOL, workflow_id=workflow_id, path=str(tree))
        completed = await client.event("workflow.completed", within_seconds=30)
        seen = client.waiting()
    assert completed["data"]["result"]["final_output"] == {
        "report": f"{tree}/report.md",
        "files": 3,
        "lines": 13,
        "functions": 1,
    }
    assert [message["event"] for message in seen[:2]] == ["workflow.created", "workflow.started"]
    stages = ["find_files", "count_lines", "measure_functions", "follow_imports", "write_report"]
    for event in ("workflow.stage_started", "workflow.stage_completed"):
        named = [message["data"]["stage_name"] for message in seen if message["event"] == event]
        assert (named[0], sorted(named[1:-1]), named[-1]) == (stages[0], sorted(stages[1:-1]), stages[-1])
    messages = [message["data"]["message"] for message in seen if message["event"] == "workflow.stage_log"]
    assert messages == [f"3 Python files below {tree}", f"The report is {tree}/report.md"]
    reporting = {message["data"]["stage_name"] for message in seen if message["event"] == "workflow.stage_progress"}
    assert reporting == set(stages[1:-1])


async def test_demo_article_waits_for_an_answer_without_a_slot_and_continues(
    engine: Engine, unique: Callable[[str], str]
) -> None:
    workflow_id = unique("wf_article")
    start = """
from orchestration.sdk import find_definition
find_definition("demo_article").start("Streams", pool=pool, workflow_id=workflow_id)
"""
    answer = """
from orchestration.sdk import Run
Run(workflow_id).answer("publish_article", {"publish": True}, by="ada", wait_id=wait_id)
"""
    async with connect(engine.server) as client:
        await client.subscribe(f"workflow:{workflow_id}")
        await asyncio.to_thread(engine.execute, start, pool=POOL, workflow_id=workflow_id)
        waiting = await client.event("workflow.waiting", within_seconds=30)
        wait_id = waiting["data"]["wait_id"]
        assert waiting["data"]["title"] == "Publish the article?"
        await asyncio.to_thread(engine.execute, answer, workflow_id=workflow_id, wait_id=wait_id)
        completed = await client.event("workflow.completed", within_seconds=30)
    assert completed["data"]["result"]["final_output"] == {"by": "ada", "words": 49}
