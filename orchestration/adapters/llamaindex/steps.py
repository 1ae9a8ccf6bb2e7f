"""The steps of a LlamaIndex workflow: their names in order, and what each did in one run."""

from __future__ import annotations

import time
from dataclasses import dataclass

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
class StepState:
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
        self._states = {step: StepState() for step in steps}

    @property
    def running(self) -> list[str]:
        """The steps that run now."""
        return [step for step, state in self._states.items() if state.running > 0]

    @property
    def returned(self) -> list[str]:
        """The steps that ran and do not run now, and did not raise."""
        states = self._states.items()
        return [step for step, state in states if state.runs and not state.running and not state.failed]

    @property
    def progress(self) -> float:
        """The share of the steps that have returned, from 0 to 1."""
        return len(self.returned) / len(self._states)

    def on_start(self, step: str) -> bool:
        """Record that a step starts. Return whether it is the first time."""
        state = self._states[step]
        state.runs += 1
        state.running += 1
        if state.runs == 1:
            state.started_at = time.monotonic()
        return state.runs == 1

    def on_end(self, step: str, *, event: str | None, failed: bool) -> None:
        """Record that a step has ended: it raised, returned an event of this type, or returned no event."""
        state = self._states[step]
        state.running -= 1
        state.event, state.failed = event, failed
        state.returned_at = time.monotonic()

    def output(self, step: str) -> dict[str, object]:
        """Return the output that is stored for a step."""
        state = self._states[step]
        return {"runs": state.runs, "event": state.event}

    def duration_ms(self, step: str) -> int:
        """Return the milliseconds from the first start of a step to its last return."""
        state = self._states[step]
        return round((state.returned_at - state.started_at) * 1000)
