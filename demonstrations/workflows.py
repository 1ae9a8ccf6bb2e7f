"""A workflow that processes real files, and one workflow for each other outcome of a run.

`manage.py run_workflow NAME --watch` starts one. Put your own workflows into the `workflows.py` of an app, as here.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from demonstrations import article, outcomes, source_report
from demonstrations.source_files import PROJECT_DIR
from orchestration.adapters.command import command
from orchestration.sdk import ask, each, parallel, workflow


@workflow(name="source_report", timeout_seconds=600)
def source_report_of(prompt: str, *, path: Path = PROJECT_DIR, report: Path | None = None) -> Any:
    """Measure every Python file below `path`, and write a report to the file `report` or to a temporary file."""
    return [
        source_report.find_files,
        parallel(source_report.count_lines, source_report.measure_functions, source_report.follow_imports),
        source_report.write_report,
    ]


@workflow()
def demo_article(prompt: str) -> Any:
    """Write an article as an agent would, and ask whether to publish it: answer on the page."""
    return [
        article.outline,
        each(article.write_section, of=article.outline, limit=2),
        ask("publish_article", article.Decision, title="Publish the article?", timeout_seconds=24 * 3600),
        article.publish,
    ]


@workflow()
def demo_retry(prompt: str, *, failures: int = 2) -> Any:
    """Fail `failures` times, wait longer after each failure, and succeed."""
    return [outcomes.prepare, outcomes.succeed_in_the_end]


@workflow()
def demo_failure(prompt: str) -> Any:
    """Fail in the second of three stages; the third never runs."""
    return [outcomes.prepare, outcomes.read_missing_file, outcomes.tidy_up]


@workflow(timeout_seconds=120)
def demo_cancel(prompt: str, *, after_seconds: float = 3.0) -> Any:
    """Work until the stage beside it cancels the run."""
    return [outcomes.prepare, parallel(outcomes.cancel_run, outcomes.work_until_cancelled)]


@workflow(timeout_seconds=4)
def demo_timeout(prompt: str) -> Any:
    """Work without end, in a run with a time limit of four seconds."""
    return [outcomes.prepare, outcomes.work_until_cancelled]


@workflow(adapter="command")
def demo_command(prompt: str, *, path: Path = PROJECT_DIR) -> Any:
    """Run programs: compile every Python file below `path`, and count them."""
    return [
        command(sys.executable, "--version", name="which_python"),
        parallel(
            command(sys.executable, "-m", "demonstrations.compile_all", str(path), name="compile", cwd=PROJECT_DIR),
            command("sh", "-c", 'find "$1" -name "*.py" -not -path "*/.*" | wc -l', "sh", str(path), name="count"),
        ),
    ]


@workflow(adapter="llamaindex")
def demo_llamaindex(prompt: str, *, path: Path = PROJECT_DIR) -> Any:
    """Summarize the largest files below `path` with a LlamaIndex workflow; its model needs no network."""
    # Imported here, because it needs an optional package and the other workflows do not.
    from demonstrations.summary_flow import OfflineModel, SummaryFlow

    return SummaryFlow(root=path.expanduser(), model=OfflineModel(), timeout=60)
