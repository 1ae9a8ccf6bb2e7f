"""When a step of an event-driven workflow has begun, and when it is over: it may run many times, or never.

A step is over when it does not run, and nothing that runs or is about to can lead back to it. That follows from the
events that steps accept and return. A step that sends events by hand, or returns several, tells too little about what
is still to come: what follows on such a step is over when the run is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class StepGraph:
    """Which steps there are, and what may follow on what.

    Attributes:
        followers: Of each step those that accept an event that it returns. Every step is a key, in order.
        consumers: Of each event those steps that accept it.
        unclear: Steps that may cause more than the one event that they return.
    """

    followers: Mapping[str, frozenset[str]]
    consumers: Mapping[str, frozenset[str]]
    unclear: frozenset[str]

    @property
    def steps(self) -> tuple[str, ...]:
        return tuple(self.followers)

    def reachable(self, steps: Iterable[str]) -> set[str]:
        """What may run after any of these, themselves only if there is a way back."""
        found: set[str] = set()
        look_at = set(steps)
        while look_at:
            look_at = {follower for step in look_at for follower in self.followers[step]} - found
            found |= look_at
        return found


class StepTracker:
    """Follows one run of a workflow.

    Attributes:
        over: Steps that were said to be over.
    """

    def __init__(self, graph: StepGraph) -> None:
        self._graph = graph
        self._running: Counter[str] = Counter()
        self._due: set[str] = set()
        self._runs: Counter[str] = Counter()
        self._last_output: dict[str, str | None] = {}
        self._until_the_end = graph.reachable(graph.unclear)
        self.over: set[str] = set()

    @property
    def running(self) -> list[str]:
        """Steps that run now."""
        return [step for step in self._graph.steps if self._running[step] > 0]

    def began(self, step: str) -> bool:
        """Take note that a step runs, or waits to; True if it is the first time."""
        self._due.discard(step)
        self._running[step] += 1
        self._runs[step] += 1
        return self._runs[step] == 1

    def ended(self, step: str, *, output: str | None, is_tried_again: bool) -> None:
        """Take note that a step has returned an event of this name, nothing, or failed and may be tried again."""
        self._running[step] -= 1
        self._last_output[step] = output
        if is_tried_again:
            self._due.add(step)
        elif output is not None:
            self._due |= self._graph.consumers.get(output, frozenset())

    def newly_finished(self) -> list[str]:
        """Steps that are over, and were not when this was last asked."""
        to_come = {*self.running, *self._due}
        open_steps = to_come | self._graph.reachable(to_come) | self._until_the_end
        return self._close(step for step in self._graph.steps if step not in open_steps)

    def finished_at_end(self) -> list[str]:
        """The others that have run, once the whole run is completed."""
        return self._close(self._graph.steps)

    def outcome(self, step: str) -> dict[str, object]:
        """What is stored as a step's output."""
        return {"runs": self._runs[step], "event": self._last_output.get(step)}

    def _close(self, steps: Iterable[str]) -> list[str]:
        closed = [step for step in steps if self._runs[step] and step not in self.over]
        self.over.update(closed)
        return closed
