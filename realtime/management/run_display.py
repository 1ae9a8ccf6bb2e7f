"""Display one run on a terminal: a progress bar, and one line per notable event."""

from __future__ import annotations

import time
from typing import Any, Final

from rich.progress import TextColumn, TimeElapsedColumn

from orchestration.db.retry import retry_while_unavailable
from orchestration.management.output import EscapedOutput
from orchestration.models import WorkflowStatus
from orchestration.text import truncate
from realtime.management.run_follower import FollowedEvent, RunFollower
from realtime.management.run_lines import RunLines, counts_of_items
from realtime.management.terminal import ProgressLine, TextOfField, progress_bar
from realtime.protocol.payload import encode_data

POLL_SECONDS: Final = 0.1

_MAX_OUTPUT_CHARACTERS: Final = 1000
_MAX_ERROR_CHARACTERS: Final = 300


class RunDisplay:
    """Displays a run until it has finished.

    Args:
        follower: Reads the run's events.
        out: Receives the lines.
        err: Shows the progress bar if only this is a terminal.
        detailed: Also print log messages and started stages. On a terminal they are always printed.
    """

    def __init__(self, follower: RunFollower, *, out: EscapedOutput, err: EscapedOutput, detailed: bool) -> None:
        self._follower = follower
        self._progress: dict[str, float] = {}
        self._messages: dict[str, str] = {}
        self._line = ProgressLine(
            out,
            err,
            TextColumn("{task.percentage:>3.0f}%"),
            progress_bar(),
            TimeElapsedColumn(),
            TextOfField("stages"),
            total=self._follower.workflow.total_stages,
        )
        self._detailed = detailed or self._line.is_shown
        self._lines_of_run = RunLines(follower.workflow.pk, detailed=self._detailed)

    def show_until_finished(self) -> str:
        """Display the run until it has finished. Returns its status."""
        with self._line:
            while not retry_while_unavailable(self._update, timeout_seconds=None, report=self._line.write):
                time.sleep(POLL_SECONDS)
        self._line.write(self._summary())
        return self._follower.workflow.status

    def _update(self) -> bool:
        """Display new events, and return whether the run has finished. A retry continues after the last event shown."""
        for event in self._follower.poll():
            self._show(event)
        self._draw_bar()
        return self._follower.has_finished

    def _show(self, event: FollowedEvent) -> None:
        if event.name == "workflow.held":
            needs = f" with {event.data['needs']}" if event.data["needs"] else ""
            self._line.write(f"held: pool {event.data['pool_id']} has no worker{needs}; the run waits for one")
        for line in self._lines_of_run.of(event.name, event.data, has_bar=self._line.is_shown):
            self._line.write(line)
        if event.name == "workflow.waiting":
            self._forget(event.data["stage_name"])
        elif event.name.startswith("workflow.map_"):
            self._progress.setdefault(event.data["stage_name"], 0.0)
            self._messages[event.data["stage_name"]] = counts_of_items(event.data)
        resource, _, change = event.name.partition(".stage_")
        if resource != "workflow" or not change:
            return
        stage_name = event.data["stage_name"]
        if change == "progress":
            self._progress[stage_name] = event.data["progress"] or 0.0
            self._messages[stage_name] = event.data.get("message", "")
        elif change == "started":
            self._progress.setdefault(stage_name, 0.0)
        elif change not in ("log", "added"):
            self._forget(stage_name)
        for line in self._lines(change, stage_name, event.data):
            self._line.write(line)

    def _forget(self, stage_name: str) -> None:
        self._progress.pop(stage_name, None)
        self._messages.pop(stage_name, None)

    def _lines(self, change: str, stage_name: str, data: dict[str, Any]) -> list[str]:
        error = truncate(data.get("error", ""), _MAX_ERROR_CHARACTERS)
        match change:
            case "completed":
                return [f"{stage_name} completed{_after(data['result'].get('duration_ms'))}"]
            case "failed":
                return [f"{stage_name} failed: {error}"]
            case "retrying":
                return [f"{stage_name} failed, retrying: {error}"]
            case "released":
                cause = "stops" if data["reason"] == "worker_stopped" else "cannot run it"
                return [f"{stage_name} continues on another worker, because its worker {cause}"]
            case "started" if self._detailed:
                return [f"{stage_name} started on {data.get('worker_id') or 'the same worker'}"]
            case "log" if self._detailed:
                return [f"{stage_name}: {line}" for line in data["message"].rstrip("\n").split("\n")]
        return []

    def _draw_bar(self) -> None:
        workflow = self._follower.workflow
        running = sum(self._progress.values())
        stages = ", ".join(" ".join((name, self._messages.get(name, ""))).strip() for name in self._progress)
        progress = f"{workflow.stages_completed} of {workflow.total_stages} stages"
        self._line.draw(
            completed=min(workflow.stages_completed + running, workflow.total_stages),
            stages=f"{progress}; {stages or workflow.status}",
        )

    def _summary(self) -> str:
        workflow = self._follower.workflow
        if workflow.status != WorkflowStatus.COMPLETED:
            outcome = "timed out" if workflow.status == WorkflowStatus.TIMEOUT else workflow.status
            return f"{workflow.pk} {outcome}{f': {workflow.error}' if workflow.error else ''}"
        result = workflow.result or {}
        output = result.get("final_output")
        shown = "" if output is None else f": {truncate(encode_data(output), _MAX_OUTPUT_CHARACTERS)}"
        return f"{workflow.pk} completed{_after(result.get('total_duration_ms'))}{shown}"


def _after(duration_ms: int | None) -> str:
    return "" if duration_ms is None else f" after {duration_ms / 1000:.3f} s"
