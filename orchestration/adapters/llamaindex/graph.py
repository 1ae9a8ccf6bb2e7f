"""What a LlamaIndex workflow says of its steps before it runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import CodeType
from typing import TYPE_CHECKING, Any

from orchestration.adapters.llamaindex.steps import StepGraph

if TYPE_CHECKING:
    from workflows import Workflow


def graph_of(flow: Workflow) -> StepGraph:
    """Read from a workflow which steps it has, the first first, and what may follow on what."""
    from workflows.representation import get_workflow_representation

    drawn = get_workflow_representation(flow)
    steps = {node.id for node in drawn.nodes if node.node_type == "step"}
    targets: dict[str, set[str]] = {node.id: set() for node in drawn.nodes}
    for edge in drawn.edges:
        targets.setdefault(edge.source, set()).add(edge.target)
    consumers = {event: frozenset(targets[event] & steps) for event in targets if event not in steps}
    followers = {
        step: frozenset().union(*(consumers.get(event, frozenset()) for event in targets[step])) for step in steps
    }
    ordered = _in_order(followers, first=consumers.get(flow.start_event_class.__name__, frozenset()))
    return StepGraph(
        followers={step: followers[step] for step in ordered},
        consumers=consumers,
        unclear=frozenset(step for step in steps if _may_cause_several(getattr(flow, step, None))),
    )


def _in_order(followers: Mapping[str, frozenset[str]], *, first: frozenset[str]) -> list[str]:
    """Order steps by how far they are from the start, and then by name."""
    ordered: list[str] = []
    look_at = sorted(first)
    while look_at:
        ordered += look_at
        look_at = sorted({follower for step in look_at for follower in followers[step]} - {*ordered})
    return [*ordered, *sorted(set(followers) - {*ordered})]


def _may_cause_several(step: Callable[..., Any] | None) -> bool:
    """Tell whether a step may cause several events: it sends some by hand, or returns a list."""
    if step is None:
        return True  # A function beside the class.
    function = inspect.unwrap(getattr(step, "__func__", step))
    code = getattr(function, "__code__", None)
    if code is None:
        return True
    return _mentions(code, "send_event") or "list[" in str(inspect.signature(function).return_annotation).lower()


def _mentions(code: CodeType, name: str) -> bool:
    return name in code.co_names or any(_mentions(each, name) for each in code.co_consts if isinstance(each, CodeType))
