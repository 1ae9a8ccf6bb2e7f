"""The lines that `run_workflow --watch` shows of stages that grow, wait and have items."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from orchestration.models import Workflow
from orchestration.text import truncate

MAP_LINE_SECONDS: Final = 10.0
"""How often the counts of a stage with items are a line, while no progress bar is shown."""

_MAX_TITLE_CHARACTERS: Final = 300
_MAX_LISTED_RUNS: Final = 5


def answer_command(workflow_id: str, wait: str) -> str:
    """Return the command line that answers a question."""
    return f"manage.py answer_workflow {workflow_id} {wait}"


def counts_of_items(data: Mapping[str, Any]) -> str:
    """Return how far the items of a stage are, in words."""
    failed = f", {data['failed']} failed" if data["failed"] else ""
    return f"{data['completed']} of {data['total']} items{failed}"


class RunLines:
    """Makes the lines of one run.

    Args:
        workflow_id: The run.
        detailed: Whether to have a line for each added stage, too.
    """

    def __init__(self, workflow_id: str, *, detailed: bool) -> None:
        self._workflow_id = workflow_id
        self._detailed = detailed
        self._map_line_due: dict[str, float] = {}

    def of(self, name: str, data: Mapping[str, Any], *, has_bar: bool) -> list[str]:
        """Return the lines of an event.

        Args:
            name: The name of the event.
            data: Its data.
            has_bar: Whether a progress bar shows the counts of items.
        """
        stage_name = data.get("stage_name", "")
        match name:
            case "workflow.waiting":
                return self._waiting(stage_name, data)
            case "workflow.wait_answered":
                by = f" by {data['by']}" if data["by"] else ""
                return [f"{stage_name}: wait answered{by}"]
            case "workflow.wait_expired":
                return [f"{stage_name}: wait has reached its time limit"]
            case "workflow.map_started":
                self._map_line_due[stage_name] = time.monotonic() + MAP_LINE_SECONDS
                return [f"{stage_name} runs {data['total']} items"]
            case "workflow.map_progress" if not has_bar and time.monotonic() >= self._map_line_due.get(stage_name, 0.0):
                self._map_line_due[stage_name] = time.monotonic() + MAP_LINE_SECONDS
                return [f"{stage_name}: {counts_of_items(data)}"]
            case "workflow.stage_added" if self._detailed:
                added_by = f" by {data['added_by']}" if data.get("added_by") else ""
                return [f"{stage_name} added{added_by}"]
            case "workflow.stage_status_changed" if data["status"] == "skipped":
                reason = f": {data['reason']}" if data.get("reason") else ""
                return [f"{stage_name} skipped{reason}"]
            case "workflow.stage_status_changed" if data["status"] == "waiting":
                return self._sub_runs(stage_name, data)
        return []

    def _waiting(self, stage_name: str, data: Mapping[str, Any]) -> list[str]:
        until = f", until {data['expires_at']}" if data["expires_at"] else ""
        if data["kind"] == "sleep":
            return [f"{stage_name} sleeps{until}"]
        if data["kind"] == "signal":
            return [f"{stage_name} waits for the signal {data['wait_name']}{until}"]
        title = truncate(data["title"], _MAX_TITLE_CHARACTERS)
        to = f" (for {', '.join(data['recipients'])})" if data["recipients"] else ""
        asked = f"{stage_name} asks{f': {title}' if title else ''}{to}{until}"
        return [asked, f"  answer with: {answer_command(self._workflow_id, data['wait_name'])}"]

    def _sub_runs(self, stage_name: str, data: Mapping[str, Any]) -> list[str]:
        runs = Workflow.objects.filter(parent_id=self._workflow_id, parent_stage__name=stage_name)
        if "waits_for_runs" in data:
            runs = runs.filter(pk__in=data["waits_for_runs"])
        rows = runs.order_by("created_at").values_list("pk", "name", "status")
        found = list(rows[: _MAX_LISTED_RUNS + 1])
        if not found:
            return []
        lines = [f"  {run_id} ({name}) {status}" for run_id, name, status in found[:_MAX_LISTED_RUNS]]
        more = ["  and more"] if len(found) > _MAX_LISTED_RUNS else []
        return [f"{stage_name} waits for its sub-runs:", *lines, *more]
