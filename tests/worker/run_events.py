"""The events of a run, as a subscriber receives them."""

from __future__ import annotations

from typing import Any

from tests.harness.client import Client, Message

END_EVENTS = ("workflow.completed", "workflow.failed", "workflow.cancelled")

RUN_AGAIN = [
    "workflow.created",
    "workflow.started",
    "workflow.stages_queued first",
    "workflow.stage_started first",
    "workflow.stage_completed first",
    "workflow.stage_started gate",
    "workflow.stage_retrying gate 1 lost",
    "workflow.stages_queued gate",
    "workflow.stage_started gate",
    "workflow.stage_completed gate",
    "workflow.stage_started third",
    "workflow.stage_completed third",
    "workflow.completed",
]
"""The outline of a run of `gated` whose first attempt at the stage `gate` is lost."""


async def events_until(client: Client, *names: str, within_seconds: float = 60) -> list[Message]:
    """Return every event up to the first with one of these names, which is included."""
    events: list[Message] = []
    while not events or events[-1]["event"] not in names:
        events.append(await client.event(within_seconds=within_seconds))
    return events


async def events_until_end(client: Client) -> list[Message]:
    """Return every event up to the end of a run."""
    return await events_until(client, *END_EVENTS)


def outline(events: list[Message]) -> list[str]:
    """Return the name of each event, with its stages, or with its worker and the worker's status.

    Holds are left out: whether a run is held depends on how long its next worker takes to start.
    """
    holds = ("workflow.held", "workflow.hold_ended")
    return [_outline(event["event"], event["data"]) for event in events if event["event"] not in holds]


def _outline(name: str, data: dict[str, Any]) -> str:
    if name == "workflow.stages_queued":
        return " ".join((name, *data["stages"]))
    if name == "workflow.stage_retrying":
        return f"{name} {data['stage_name']} {data['attempt']} {data['reason']}"
    if name == "workflow.stage_released":
        return f"{name} {data['stage_name']} {data['attempt']}"
    if "worker_id" in data and "status" in data:
        return f"{name} {data['worker_id']} {data['status']}"
    return f"{name} {data['stage_name']}" if "stage_name" in data else name


def is_of_workflow(event: Message) -> bool:
    """Return whether an event is about a workflow. Events of a worker have a `workflow_id` too."""
    return str(event["event"]).startswith("workflow.")


def untimed(message: Message) -> tuple[str, dict[str, Any]]:
    """Return an event's name and its data, without timestamps and durations."""
    return message["event"], _without_times(message["data"])


def _without_times(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    hidden = ("timestamp", "duration_ms", "total_duration_ms")
    return {key: _without_times(each) for key, each in value.items() if key not in hidden}
