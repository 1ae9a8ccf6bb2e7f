"""The steps of a LlamaIndex workflow: their names in order, and what each did in one run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workflows import Workflow
from workflows.representation import get_workflow_representation


def step_names(flow: Workflow) -> list[str]:
    """Return the names of a workflow's steps: ordered by the distance from the start event, then by name."""
    graph = get_workflow_representation(flow)
    steps = {node.id for node in graph.nodes if node.node_type == "step"}
    targets: dict[str, set[str]] = {node.id: set() for node in graph.nodes}
    for edge in graph.edges:
        targets.setdefault(edge.source, set()).add(edge.target)
    seen: dict[str, None] = {}
    nodes = {flow.start_event_class.__name__}
    while nodes:
        seen.update(dict.fromkeys(sorted(nodes)))
        nodes = {target for node in nodes for target in targets.get(node, ())} - seen.keys()
    return [node for node in (*seen, *sorted(steps - seen.keys())) if node in steps]


@dataclass(slots=True)
class StepRecord:
    """What a step has done in a run so far.

    Attributes:
        runs: How often it was started, including retries by the library.
        running: How many of them run now.
        event: The type of the event that it returned last; None if it returned none.
        failed: Whether its last attempt raised; the library may retry it.
        started_at: Its first start, by the monotonic clock.
        returned_at: Its last return.
    """

    runs: int = 0
    running: int = 0
    event: str | None = None
    failed: bool = False
    started_at: float = 0.0
    returned_at: float = 0.0


class StepTracker:
    """Tracks the steps of one run. A step may run many times, or never.

    A step can send any event at any time, not only the events that it declares. So any step may start again until the
    run ends. A step counts as completed only then, and its duration ends at its last return.
    """

    def __init__(self, steps: list[str]) -> None:
        self._records = {step: StepRecord() for step in steps}

    @property
    def running(self) -> list[str]:
        """The steps that run now."""
        return [step for step, record in self._records.items() if record.running > 0]

    @property
    def returned(self) -> list[str]:
        """The steps that ran and do not run now, and did not raise."""
        records = self._records.items()
        return [step for step, record in records if record.runs and not record.running and not record.failed]

    @property
    def progress(self) -> float:
        """The share of the steps that have returned, from 0 to 1."""
        return len(self.returned) / len(self._records)

    def to_json(self) -> dict[str, Any]:
        """Return what the steps have done, for another process."""
        now, at = time.monotonic(), time.time()
        # Between processes, only the time of day is the same clock.
        return {
            step: {
                "runs": record.runs,
                "event": record.event,
                "failed": record.failed,
                "started_at": at - (now - record.started_at),
                "returned_at": at - (now - record.returned_at),
            }
            for step, record in self._records.items()
            if record.runs
        }

    def restore(self, stored: Mapping[str, Mapping[str, Any]]) -> None:
        """Continue with what `to_json` returned."""
        now, at = time.monotonic(), time.time()
        for step, fields in stored.items():
            record = self._records[step]
            record.runs, record.event, record.failed = fields["runs"], fields["event"], fields["failed"]
            record.started_at = now - (at - fields["started_at"])
            record.returned_at = now - (at - fields["returned_at"])

    def on_start(self, step: str) -> bool:
        """Record that a step starts. Return whether it is the first time."""
        record = self._records[step]
        record.runs += 1
        record.running += 1
        if record.runs == 1:
            record.started_at = time.monotonic()
        return record.runs == 1

    def on_end(self, step: str, *, event: str | None, failed: bool) -> None:
        """Record that a step has ended: it raised, returned an event of this type, or returned no event."""
        record = self._records[step]
        record.running -= 1
        record.event, record.failed = event, failed
        record.returned_at = time.monotonic()

    def output(self, step: str) -> dict[str, object]:
        """Return the output that is stored for a step."""
        record = self._records[step]
        return {"runs": record.runs, "event": record.event}

    def duration_ms(self, step: str) -> int:
        """Return the milliseconds from the first start of a step to its last return."""
        record = self._records[step]
        return round((record.returned_at - record.started_at) * 1000)
