"""What a person sees of a run: a bar where there is a terminal, and a line for whatever is worth one."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, Final

from tqdm import tqdm

from orchestration.db.retry import retry_while_unavailable
from realtime.management.run_follower import FollowedEvent, Follower
from realtime.protocol.payload import encode_data

LOOK_SECONDS: Final = 0.1

_MAX_OUTPUT_CHARACTERS: Final = 1000
_MAX_ERROR_CHARACTERS: Final = 300


class Watch:
    """Shows a run until it has ended.

    Args:
        follower: Of the run.
        write: Takes a line.
        detailed: Write what stages log and when they begin as well; a terminal shows that in any case.
    """

    def __init__(self, follower: Follower, *, write: Callable[[str], None], detailed: bool) -> None:
        self._follower = follower
        self._write = write
        self._progress: dict[str, float] = {}
        self._words: dict[str, str] = {}
        # Nothing is drawn where there is no terminal.
        self._bar = tqdm(
            total=self._follower.workflow.total_stages,
            file=sys.stderr,
            disable=None,
            leave=False,
            dynamic_ncols=True,
            bar_format="{percentage:3.0f}% |{bar:30}| {elapsed} {desc}",
        )
        self._detailed = detailed or not self._bar.disable

    def until_end(self) -> str:
        """Show it until it has ended, and return its status."""
        with self._bar:
            while not retry_while_unavailable(self._look, timeout_seconds=None, report=self._write_beside_bar):
                time.sleep(LOOK_SECONDS)
        self._write(self._end())
        return self._follower.workflow.status

    def _look(self) -> bool:
        """Show what is new, and return whether that was the end. The next look goes on where a failed one ended."""
        for announced in self._follower.news():
            self._show(announced)
        self._draw()
        return self._follower.has_ended

    def _write_beside_bar(self, line: str) -> None:
        self._bar.clear()
        self._write(line)

    def _show(self, announced: FollowedEvent) -> None:
        kind, _, what = announced.name.partition(".stage_")
        if kind != "workflow" or not what:
            return
        name = announced.data["stage_name"]
        if what == "progress":
            self._progress[name] = announced.data["progress"] or 0.0
            self._words[name] = announced.data.get("message", "")
        elif what == "started":
            self._progress.setdefault(name, 0.0)
        elif what != "log":
            self._progress.pop(name, None)
            self._words.pop(name, None)
        if line := self._line(what, name, announced.data):
            self._write_beside_bar(line)

    def _line(self, what: str, name: str, data: dict[str, Any]) -> str:
        error = _shortened(data.get("error", ""), _MAX_ERROR_CHARACTERS)
        match what:
            case "completed":
                return f"{name} is completed after {_seconds(data['result'].get('duration_ms'))}"
            case "failed":
                return f"{name} failed: {error}"
            case "retrying":
                return f"{name} failed and is tried again: {error}"
            case "started" if self._detailed:
                return f"{name} runs on {data.get('worker_id') or 'the same worker'}"
            case "log" if self._detailed:
                return "\n".join(f"{name}: {line}" for line in data["message"].splitlines())
        return ""

    def _draw(self) -> None:
        workflow = self._follower.workflow
        running = sum(self._progress.values())
        self._bar.n = min(workflow.stages_completed + running, workflow.total_stages)
        what_runs = ", ".join(" ".join((name, self._words.get(name, ""))).strip() for name in self._progress)
        self._bar.set_description_str(
            f"{workflow.stages_completed} of {workflow.total_stages} stages; {what_runs or workflow.status}"
        )

    def _end(self) -> str:
        workflow = self._follower.workflow
        if workflow.status != "completed":
            return f"{workflow.pk} is {workflow.status}{f': {workflow.error}' if workflow.error else ''}"
        result = workflow.result or {}
        output = result.get("final_output")
        told = "" if output is None else f": {_shortened(encode_data(output), _MAX_OUTPUT_CHARACTERS)}"
        return f"{workflow.pk} is completed after {_seconds(result.get('total_duration_ms'))}{told}"


def _seconds(duration_ms: int | None) -> str:
    return "some time" if duration_ms is None else f"{duration_ms / 1000:.3f} s"


def _shortened(text: str, max_characters: int) -> str:
    return text if len(text) <= max_characters else f"{text[: max_characters - 1]}…"
