"""One workflow that works on real files, and one for each of the other ends that a run can come to.

Each is started by `manage.py run_workflow NAME --watch`. An app's own workflows stand in its `workflows.py`, as here.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from demonstrations import endings, source_report
from demonstrations.source_files import PROJECT_DIR
from orchestration.adapters.command import command
from orchestration.sdk import parallel, workflow


@workflow(name="source_report", timeout_seconds=600)
def source_report_of(prompt: str, *, path: str = str(PROJECT_DIR), report: str | None = None) -> Any:
    """Measure every Python file below `path` and write a report, to the file `report` or to a temporary one."""
    return [
        source_report.find_files,
        parallel(source_report.count_lines, source_report.measure_functions, source_report.follow_imports),
        source_report.write_report,
    ]


@workflow()
def demo_retry(prompt: str, *, failures: int = 2) -> Any:
    """Fail so many times, wait a little longer each time, and then succeed."""
    return [endings.prepare, endings.succeed_in_the_end]


@workflow()
def demo_failure(prompt: str) -> Any:
    """Fail in the second of three stages; the third never runs."""
    return [endings.prepare, endings.read_what_is_missing, endings.tidy_up]


@workflow(timeout_seconds=120)
def demo_cancel(prompt: str, *, after_seconds: float = 3.0) -> Any:
    """Work for ever, until the stage beside it loses patience and cancels the run."""
    return [endings.prepare, parallel(endings.lose_patience, endings.work_for_ever)]


@workflow(timeout_seconds=4)
def demo_timeout(prompt: str) -> Any:
    """Work for ever, in a run that may take four seconds."""
    return [endings.prepare, endings.work_for_ever]


@workflow(adapter="command")
def demo_command(prompt: str, *, path: str = str(PROJECT_DIR)) -> Any:
    """Let programs do the work: compile every Python file below `path`, and count them."""
    return [
        command(sys.executable, "--version", name="which_python"),
        parallel(
            command(sys.executable, "-m", "demonstrations.compile_all", path, name="compile", cwd=PROJECT_DIR),
            command("sh", "-c", 'find "$1" -name "*.py" -not -path "*/.*" | wc -l', "sh", path, name="count"),
        ),
    ]


@workflow(adapter="llamaindex")
def demo_llamaindex(prompt: str, *, path: str = str(PROJECT_DIR)) -> Any:
    """Let a LlamaIndex workflow summarise the largest files below `path`; its model needs no network."""
    # Imported here: the package it needs may be absent, and the other workflows do without it.
    from demonstrations.summary_flow import OfflineModel, SummaryFlow

    return SummaryFlow(root=Path(path).expanduser(), model=OfflineModel(), timeout=60)
